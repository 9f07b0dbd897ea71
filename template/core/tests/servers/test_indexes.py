"""The indexes of documents, which each process creates when it starts."""

import asyncio
import re
from typing import Annotated, Any

from beanie import Document, Indexed
from pymongo import AsyncMongoClient

from core.entry import Service, open_service
from core.testing import eventually


class Book(Document):
    title: Annotated[str, Indexed(unique=True)]


async def test_an_index_that_cannot_be_created(worker, settings, caplog):
    """The process waits, and goes on when the documents fit the index."""
    service = Service(documents=[Book], routers=[], worker=worker)
    async with AsyncMongoClient[dict[str, Any]](str(settings.mongodb_url)) as client:
        books = client[settings.mongodb_database]["Book"]
        await books.insert_many([{"title": "Emma"}, {"title": "Emma"}])

        async def correct_documents() -> None:
            message = r"database unavailable, trying again .*duplicate key"
            await eventually(lambda: re.search(message, caplog.text))
            await books.delete_one({"title": "Emma"})

        try:
            correcting = asyncio.create_task(correct_documents())
            async with open_service(service, settings) as database:
                await correcting
                await eventually(database.ready.is_set)
                assert (await books.index_information())["title_1"]["unique"]
        finally:
            await books.drop()
