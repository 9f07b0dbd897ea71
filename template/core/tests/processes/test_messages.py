"""Each error of a command or a process is one line, or the few lines that explain it."""

import socket

import pytest

from core.tasks.engines import DEFAULT

NOWHERE = "mongodb://ada:hunter2@127.0.0.1:1/"
COMMANDS = [
    ("dead-letters", "list"),
    ("schedules", "list"),
    ("history",),
    ("drain",),
    ("shell",),
    ("admin", "ada@example.com"),
]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_a_command_says_that_nothing_is_running(run, command):
    done = run(*command, MONGODB_URL=None, REDIS_URL=None, SECRET_KEY=None)
    hint = "MongoDB is not running here. Start `just dev`, or set MONGODB_URL."
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"error: {hint}\n"


@pytest.mark.skipif(DEFAULT == "local", reason="the job queue is off")
def test_a_command_says_that_the_queue_is_not_running(run):
    done = run("drain", REDIS_URL=None)
    hint = "The job queue's server is not running here. Start `just dev`, or set REDIS_URL."
    assert done.stderr == f"error: {hint}\n"


def test_production_is_not_told_to_start_just_dev(run):
    done = run("history", ENVIRONMENT="production", MONGODB_URL=None)
    assert "MONGODB_URL is missing" in done.stderr
    assert "just dev" not in done.stderr


def test_a_command_names_the_server_that_does_not_answer(run):
    done = run("schedules", "list", MONGODB_URL=NOWHERE)
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: MongoDB at 127.0.0.1:1 cannot be used: ")
    assert line.endswith(" (the address is in MONGODB_URL)")
    assert "Topology" not in line
    assert "hunter2" not in line


def test_a_secret_key_that_is_missing_is_written_by_setup(run):
    done = run("web", SECRET_KEY=None)
    assert "SECRET_KEY is missing" in done.stderr
    assert "`just setup` writes SECRET_KEY" in done.stderr
    assert "just setup" not in run("web", MONGODB_URL=None).stderr


@pytest.mark.parametrize("command", [("setup",), ("dev",), ("web",), ("history",)])
@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b"this is broken", "cannot be read; write NAME=value"),
        (b"NAME=Gr\xfc\xdfe", "is not UTF-8; save the file as UTF-8"),
    ],
)
def test_a_broken_line_of_env_is_reported_once(run, root, command, line, problem):
    (root / ".env").write_bytes(b"PORT=8001\n\n" + line + b"\n")
    done = run(*command)
    assert done.returncode == 2
    assert done.stderr == f"error: .env:3 {problem}\n"


def test_a_port_in_use_is_named(run):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        done = run("web", PORT=str(port))
    assert done.returncode == 2
    assert "address already in use" in done.stderr
    last = done.stderr.splitlines()[-1]
    assert last == f"error: cannot listen on 127.0.0.1:{port}; the log says why"


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("dead-letters", "lost"), "error: argument action: invalid choice: 'lost'"),
        (
            ("history", "--limit", "many"),
            "error: argument --limit: 'many' is not a positive number",
        ),
        (("history", "--limit", "0"), "error: argument --limit: '0' is not a positive number"),
        (("history", "--since", "soon"), "error: argument --since: 'soon' is not a valid time"),
        (("dead-letters", "show"), "error: the following arguments are required: ID"),
        (("history", "--color"), "error: unrecognized arguments: --color"),
    ],
)
def test_a_wrong_command_line_is_one_line(run, arguments, problem):
    done = run(*arguments)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith(problem)
    assert line.endswith("--help` explains the options.")


MAIN = """from core.entry import Service
from core.tasks import Worker

from app import texts

service = Service([], [], Worker())
"""
BROKEN = {
    "NameError: name 'count' is not defined": "words = count\n",
    "SyntaxError: '(' was never closed": "words = (\n",
    "ModuleNotFoundError: No module named 'parcels'": "import parcels\n",
    "ValueError: no words": """try:
    {}["words"]
except KeyError as error:
    raise ValueError("no words") from error
""",
}


@pytest.fixture
def app(root):
    """A folder with a service that imports the module `app.texts`."""
    app = root / "app"
    app.mkdir()
    (app / "main.py").write_text(MAIN)
    return app


@pytest.mark.parametrize("process", ["web", "worker"])
@pytest.mark.parametrize(("error", "code"), BROKEN.items(), ids=lambda text: text.split(":")[0])
def test_an_error_in_the_services_code_names_its_place(run, app, process, error, code):
    (app / "texts.py").write_text(code)
    line = len(code.splitlines())
    done = run(process, SERVICE="app.main:service")
    assert done.returncode == 2
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert lines[0] == f"error: app/texts.py:{line}: {error}"
    assert lines[1] == "  app/main.py:4: from app import texts"
    assert lines[2].startswith(f"  app/texts.py:{line}: {code.splitlines()[-1].strip()}")
    causes = ["caused by app/texts.py:2: KeyError: 'words'"] if "from error" in code else []
    assert lines[3:] == causes


TEXTS = """
from beanie import Document

async def open(app):
    yield

class Trip(Document):
    class Settings:
        name = "sessions"
"""
WRONG_PARTS = {
    "[texts.Trip], [], Worker()": "the collection 'sessions' of Trip belongs to core. Set another",
    "[texts], [], Worker()": "documents takes subclasses of beanie.Document, not <module 'app.te",
    "[], [texts], Worker()": "routers takes objects of fastapi.APIRouter, not <module 'app.texts'",
    "[], [], Worker(), middleware=[str]": "middleware takes objects of fastapi.middleware.Middle",
    "[], [], Worker(), settings=str": "settings takes the object that read_settings returned, not",
    "[], [], Worker(), docs_url='docs'": "docs_url takes a path that begins with a slash, not",
    "[], [], Worker(), lifespan=texts.open": "lifespan takes a function with @asynccontextmanager",
}


@pytest.mark.parametrize(("parts", "problem"), WRONG_PARTS.items(), ids=lambda text: text[:20])
def test_a_wrong_part_of_the_service_is_one_line(run, app, parts, problem):
    (app / "texts.py").write_text(TEXTS)
    (app / "main.py").write_text(MAIN.replace("[], [], Worker()", parts))
    done = run("web", SERVICE="app.main:service")
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"error: Service: {problem}")


def test_the_whole_traceback_is_there_at_the_level_debug(run, app):
    (app / "texts.py").write_text(BROKEN["ValueError: no words"])
    done = run("web", SERVICE="app.main:service", LOG_LEVEL="DEBUG")
    assert "core/entry.py" in done.stderr
    assert done.stderr.endswith("ValueError: no words\n")
