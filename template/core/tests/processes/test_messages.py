"""Each error of a command or a process is one line, or the few lines that explain it."""

import json
import socket
import subprocess
import sys

import pytest

from core.tasks.engines import DEFAULT
from core.tests.processes.conftest import environment
from core.tests.terminal import Terminal

NOWHERE = "mongodb://ada:hunter2@127.0.0.1:1/"
COMMANDS = [
    ("jobs", "list"),
    ("jobs", "watch", "a"),
    ("dead-letters", "list"),
    ("schedules", "list"),
    ("history",),
    ("workers",),
    ("stats", "--json"),
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


def test_the_doctor_says_that_nothing_is_running(run):
    done = run("doctor", "--json", MONGODB_URL=None, REDIS_URL=None, SECRET_KEY=None)
    hint = "MongoDB is not running here. Start `just dev`, or set MONGODB_URL."
    (finding,) = json.loads(done.stdout)
    assert (finding["state"], finding["text"]) == ("problem", hint)
    assert (done.returncode, done.stderr) == (1, "")


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
        ((), "missing command"),
        (("lost",), "no such command 'lost'"),
        (("dead-letters", "--color"), "no such option: --color"),
        (("dead-letters", "lost"), "no such command 'lost'"),
        (("dead-letters", "show"), "missing argument 'ID'"),
        (("jobs", "watch"), "missing argument 'ID'"),
        (("jobs", "list", "--state", "lost"), "invalid value for '--state': 'lost' is not one of"),
        (
            ("admin", "a@example.com", "--role", "x"),
            "invalid value for '--role': 'x' is not one of",
        ),
        (
            ("history", "--limit", "many"),
            "invalid value for '--limit': Input should be a valid int",
        ),
        (("history", "--limit", "0"), "invalid value for '--limit': Input should be greater than"),
        (("history", "--limit"), "option '--limit' requires an argument"),
        (("history", "--since", "soon"), "invalid value for '--since': 'soon' is not a valid time"),
        (("history", "--since", "1w"), "invalid value for '--since': '1w' is not a valid time; wr"),
        (("jobs", "list", "--since", "999999999d"), "invalid value for '--since': '999999999d' is"),
        (("history", "--ended-as", "x"), "invalid value for '--ended-as': 'x' is not one of 'comp"),
        (("history", "--color"), "no such option: --color"),
        (("history", "more"), "got unexpected extra argument(s) (more)"),
        (("new", "tusk", "a"), "invalid value for 'KIND': 'tusk' is not one of 'task', 'route'"),
        (("worker", "--processes", "0"), "invalid value for '--processes': Input should be great"),
        (("migrate", "--check", "--back", "a"), "invalid value: --check and --back exclude each"),
    ],
)
def test_a_wrong_command_line_is_one_line(run, arguments, problem):
    done = run(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"error: {problem}")
    assert line.endswith("--help` explains the options.")


def test_the_help_is_plain_text_in_a_pipe(run):
    done = run("jobs", "--help", MONGODB_URL=None)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.isascii()
    for name in ("list", "show", "watch", "abort"):
        assert f"\n  {name} " in done.stdout


@pytest.mark.parametrize("command", [("--help",), ("doctor", "--json")], ids=["help", "doctor"])
def test_an_output_on_a_full_disk_is_one_line(root, command):
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "core", *command],
            env=environment(root),
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    problem = "the output cannot be written, because the disk is full."
    assert (done.returncode, done.stderr) == (2, f"error: {problem}\n")


def test_a_command_that_only_reads_needs_no_code_of_the_service(run, app):
    (app / "texts.py").write_text("words = count\n")
    done = run("dead-letters", "list", SERVICE="app.main:service")
    assert done.stderr.startswith("error: MongoDB at 127.0.0.1:1 cannot be used: ")
    done = run("schedules", "list", SERVICE="app.main:service")
    assert done.stderr.startswith("error: app/texts.py:1: NameError: ")


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


FAULT = """
import sys
from core.commands import history, main

def fail(*arguments):
    password = sys.argv[1]
    raise RuntimeError("a fault")

history.run = fail
sys.exit(main.main(["history"]))
"""


def test_the_traceback_of_a_fault_shows_no_variables(root, elsewhere):
    command = [sys.executable, "-c", FAULT, "hunter2"]
    plain = {**environment(root), "PYTHON_COLORS": "0"}  # Python 3.13 has colours here
    terminal = Terminal(command, elsewhere, plain, width=200)
    shown = terminal.read_rest()
    assert "RuntimeError: a fault" in shown
    assert "hunter2" not in shown
    assert terminal.wait() == 1
    terminal.close()
