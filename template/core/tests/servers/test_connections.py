"""Requests that share a connection share nothing else."""

import asyncio
import os
import subprocess
import sys

from core.config import ROOT
from core.dev.servers import HOST, free_port, is_listening
from core.testing import eventually

SERVICE = """
from fastapi import APIRouter
from core.context import TaskContext
from core.entry import Service
from core.tasks import Worker

router = APIRouter()

@router.get("/actor")
async def show_actor() -> str:
    actor = TaskContext.get_actor()
    TaskContext.set_actor("ada")
    return f"actor: {actor}"

service = Service([], [router], Worker())
"""
REQUEST = f"GET /actor HTTP/1.1\r\nHost: {HOST}\r\n"
PIPELINE = f"{REQUEST}\r\n{REQUEST}Connection: close\r\n\r\n"


async def test_a_pipelined_request_does_not_run_for_the_user_of_the_one_before(settings, tmp_path):
    (tmp_path / "pipelined.py").write_text(SERVICE)
    port = free_port()
    environment = {
        **os.environ,
        "SERVICE": "pipelined:service",
        "PYTHONPATH": f"{tmp_path}:{ROOT}",
        "PORT": str(port),
    }
    process = subprocess.Popen([sys.executable, "-m", "core", "web"], env=environment)
    try:
        await eventually(lambda: is_listening(port), seconds=60)
        reader, writer = await asyncio.open_connection(HOST, port)
        writer.write(PIPELINE.encode())
        answers = (await reader.read()).decode()
        writer.close()
    finally:
        process.terminate()
        process.wait(timeout=60)
    assert answers.count("actor: None") == 2
