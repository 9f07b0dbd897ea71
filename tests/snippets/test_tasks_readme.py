"""The snippets and commands of `app/tasks/README.md` work, with a real worker."""

import ast
import asyncio
import inspect
import json
import re
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx2
import pytest
import uvicorn
from fastapi import BackgroundTasks

from core.config import get_settings
from core.models import AuditModel
from core.testing import eventually

README = Path("app/tasks/README.md").read_text()
USES = re.findall(r"^```python\n(?!# \S+\.py\n)(.*?)^```$", README, re.MULTILINE | re.DOTALL)
(SHELL,) = re.findall(r"^```sh\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
COMMANDS = [line.split("  #")[0] for line in SHELL.splitlines()]


class Handler(BaseHTTPRequestHandler):
    """A proxy that answers the requests to every host."""

    received = []

    def do_POST(self):
        text = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.received.append((self.path, text, self.headers["x-api-key"]))
        is_first = len([each for each in self.received if each[1] == text]) == 1
        status = {"untranslatable": 422, "too many": 429 if is_first else 200}.get(text, 200)
        self.send_response(status)
        self.send_header("Retry-After", "0.1")
        self.end_headers()
        self.wfile.write(b"bonjour")

    def log_message(self, format, *args): ...


@pytest.fixture
def internet(monkeypatch):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=[0.01], daemon=True).start()
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{server.server_port}")
    yield
    server.shutdown()
    server.server_close()


async def execute(snippet, names):
    code = compile(snippet, "README.md", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    if inspect.iscoroutine(result := eval(code, names)):
        await result


async def just(*arguments):
    process = await asyncio.create_subprocess_exec(
        "just", *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    output, errors = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 0, errors.decode()
    return output.decode()


async def test_each_snippet(internet, client, signed_in, user, mailbox, running_worker):
    from app.tasks import texts

    names = {"count_words": texts.count_words}
    run, transaction, chain, which, context = USES

    await execute(run, names)
    assert (await names["job"].result(), await names["job"].status()) == (6, "completed")
    response = await client.post("/texts?text=to+be")
    assert response.status_code == 202
    assert await texts.worker.job(response.json()["job_id"]).result(10) == 2

    await user.delete()  # the next snippet uses the same address
    await execute(transaction, names)
    assert (await names["job"].result(10))["status"] == "sent"
    service = get_settings().service_name
    assert [mail["Subject"] for mail in mailbox.messages] == [f"Welcome to {service}!"]

    await execute(chain, names)
    assert (await names["chain"].result(10), await names["chain"].statuses()) == (6, ["completed", "completed"])
    assert await texts.clean_and_count.job(names["chain"].id).status() == "completed"

    await (await texts.publish.enqueue("to be", "a-secret-key")).result(10)
    assert await (await texts.translate.enqueue("to be")).result(10) == "bonjour"
    busy = await texts.translate.enqueue("too many")
    assert (await busy.result(10), (await busy.record()).attempt) == ("bonjour", 1)
    assert Handler.received[0] == ("http://texts.example/", "to be", "a-secret-key")
    assert str(texts.worker.context.dictionary.base_url).endswith("://words.example")
    schedules = {view.id: view.enabled for view in await texts.worker.schedules.list()}
    declared = {"refresh_words": True, "count_all_texts": False, "happy_new_year": True, "nightly": True}
    assert schedules.items() >= declared.items()
    nightly = await texts.worker.schedules.run_now("nightly")
    assert await texts.worker.job(nightly).result(10) == 2

    await execute(which, names)
    assert names["words"] == 2
    async def correlation_ids():
        entries = await AuditModel.find(AuditModel.action == "text.counted").to_list()
        return len(entries) == 2 and {entry.correlation_id for entry in entries}

    assert "import-7" in await eventually(correlation_ids)
    await execute(context, names)
    assert (names["correlation_id"], (await names["job"].record()).correlation_id) == ("import-8",) * 2


@pytest.fixture
async def url(app):
    """The address of the application in a real web server."""
    server = uvicorn.Server(uvicorn.Config(app, lifespan="off", log_config=None))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        serving = asyncio.create_task(server.serve([listener]))
        await eventually(lambda: server.started)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        server.should_exit = True
        await serving


async def test_background_tasks_behind_one_that_fails(app, url, caplog):
    ran = []

    @app.post("/numbers")
    async def count(background_tasks: BackgroundTasks):
        background_tasks.add_task(ran.append, 1)
        background_tasks.add_task(int, "no number")
        background_tasks.add_task(ran.append, 2)

    async with httpx2.AsyncClient() as client:
        response = await client.post(f"{url}/numbers")
    assert response.status_code == 200
    await eventually(lambda: "Exception in ASGI application" in caplog.text)
    assert ran == [1]


async def test_enqueueing_from_a_plain_task(tmp_path, db, running_worker):
    from app.tasks import texts

    path = tmp_path / "texts.txt"
    path.write_text("to be\nor not to be\n")
    assert await (await texts.import_texts.enqueue(str(path))).result(10) == 2


async def test_each_script(db, running_worker):
    scripts = re.findall(r"^```python\n# (\w+\.py)\n", README, re.MULTILINE)
    assert len(scripts) == 2
    assert f"`uv run python {scripts[0]}`" in README
    for script in scripts:
        process = await asyncio.create_subprocess_exec(
            "uv", "run", "python", script, stdout=asyncio.subprocess.PIPE
        )
        output, _ = await asyncio.wait_for(process.communicate(), 30)
        assert (process.returncode, output) == (0, b"6\n")


async def test_each_command(internet, db, running_worker):
    from app.tasks import texts

    job = await texts.translate.enqueue("untranslatable")
    await eventually(lambda: texts.worker.dead_letters.list(task="translate"))
    commands = [command.split()[1:] for command in COMMANDS]
    jobs, watch, every, listing, replay, history, workers, stats, doctor, schedules = commands
    assert doctor == ["doctor"]  # its verdict depends on the machine

    counted = await texts.count_words.enqueue("to be")
    assert await counted.result(10) == 2
    assert watch.pop() == "JOB_ID"
    # In a local queue, other processes only see a run that has been written.
    kept = {"task": "count_words", "ended_as": "completed"}
    await eventually(lambda: texts.worker.history.list(**kept))
    assert "completed" in await just(*watch, counted.id)
    for command in (jobs, workers, stats):
        await just(*command)
    shown = await just(*listing)
    assert await just(*every) == shown
    _, line = shown.splitlines()
    assert re.search(r"  translate  .* UTC  PermanentError: this cannot be translated$", line)
    letter_id = line.split()[0]
    assert job.id in await just("dead-letters", "show", letter_id)
    assert await just(*replay) == "1 replayed\n"
    again = await eventually(lambda: texts.worker.dead_letters.list(task="translate", state="dead"))
    assert (await just("dead-letters", "discard", again[0].id)).startswith(f"{again[0].id} discarded")
    await eventually(lambda: texts.worker.history.list(task="translate"))
    assert "translate  failed" in await just(*history)
    listed = await just(*schedules)
    assert re.search(r"^happy_new_year +enabled +(2099-01-01|2098-12-31) ", listed, re.MULTILINE)
