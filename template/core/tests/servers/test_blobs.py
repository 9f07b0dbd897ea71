"""Blobs: files in a folder, and links that expire."""

from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from core.context import TaskContext
from core.models import BlobModel
from core.services.blob import BlobNotFound, blob_service

CONTENT = bytes(range(256)) * 10_000


async def pieces():
    for start in range(0, len(CONTENT), 100_000):
        yield CONTENT[start : start + 100_000]


def path_of(link: str) -> str:
    return urlsplit(link).path


async def test_an_uploaded_file_is_downloaded_unchanged(db):
    with TaskContext.use(actor="user-1"):
        blob = await blob_service.upload(CONTENT, "reports/2027 Q1.pdf")
    assert (blob.name, blob.content_type) == ("reports/2027 Q1.pdf", "application/pdf")
    assert (blob.size, blob.owner) == (len(CONTENT), "user-1")
    assert await blob_service.download(str(blob.id)) == CONTENT
    assert await BlobModel.count() == 1


async def test_a_file_is_stored_and_read_in_pieces(db):
    blob = await blob_service.upload(pieces(), "data.bin")
    assert blob.size == len(CONTENT)
    assert blob.content_type == "application/octet-stream"
    received = [piece async for piece in blob_service.stream(str(blob.id))]
    assert b"".join(received) == CONTENT
    empty = await blob_service.upload(b"", "empty")
    assert await blob_service.download(str(empty.id)) == b""


@pytest.mark.parametrize("blob_id", ["000000000000000000000000", "../../etc/passwd", ""])
async def test_an_unknown_blob_is_not_found(db, blob_id):
    with pytest.raises(BlobNotFound):
        await blob_service.download(blob_id)
    await blob_service.delete(blob_id)


async def test_a_deleted_blob_is_not_found(client, settings):
    blob = await blob_service.upload(CONTENT, "data.bin")
    link = blob_service.link(str(blob.id))
    await blob_service.delete(str(blob.id))
    assert list(Path(settings.blob_url).iterdir()) == []
    assert (await client.get(path_of(link))).status_code == 404


async def test_a_link_expires(client):
    blob = await blob_service.upload(CONTENT, 'a "report" für 2027.pdf')
    link = blob_service.link(str(blob.id))
    assert link.startswith("http://127.0.0.1:8000/blobs/")
    response = await client.get(path_of(link))
    assert response.content == CONTENT
    assert response.headers["content-type"] == "application/pdf"
    assert response.headers["content-disposition"] == (
        "attachment; filename*=UTF-8''a%20%22report%22%20f%C3%BCr%202027.pdf"
    )
    expired = blob_service.link(str(blob.id), seconds=-1)
    assert (await client.get(path_of(expired))).status_code == 410
    assert (await client.get(path_of(link)[:-1])).status_code == 404
    assert (await client.get(f"/blobs/{blob.id}")).status_code == 404


async def test_a_blob_whose_file_is_lost_is_not_found(client, settings):
    blob = await blob_service.upload(CONTENT, "data.bin")
    (Path(settings.blob_url) / str(blob.id)).unlink()
    link = blob_service.link(str(blob.id))
    assert (await client.get(path_of(link))).status_code == 404


async def test_mongodb_deletes_the_record_of_an_expired_blob(db):
    kept = await blob_service.upload(CONTENT, "kept.bin")
    expiring = await blob_service.upload(CONTENT, "expiring.bin", expires=3600)
    assert kept.expires_at is None
    assert expiring.expires_at == expiring.created_at + timedelta(hours=1)
    indexes = await BlobModel.get_pymongo_collection().index_information()
    assert indexes["expires_at_1"]["expireAfterSeconds"] == 0


async def test_old_files_without_a_record_are_removed(db, settings):
    kept = await blob_service.upload(CONTENT, "kept.bin")
    lost = await blob_service.upload(CONTENT, "lost.bin")
    await lost.delete()  # an interrupted upload leaves such a file
    foreign = Path(settings.blob_url) / "README"
    foreign.write_text("not ours")
    assert await blob_service.delete_orphans() == 0
    assert await blob_service.delete_orphans(older_than=timedelta(seconds=-5)) == 1
    assert {path.name for path in Path(settings.blob_url).iterdir()} == {str(kept.id), "README"}
