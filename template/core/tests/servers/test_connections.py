"""Requests that share a connection share nothing else."""

import asyncio

from core.dev.servers import HOST
from core.tests.servers.web_process import web_process

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
    async with web_process(tmp_path, SERVICE) as port:
        reader, writer = await asyncio.open_connection(HOST, port)
        writer.write(PIPELINE.encode())
        answers = (await reader.read()).decode()
        writer.close()
    assert answers.count("actor: None") == 2
