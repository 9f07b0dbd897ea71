"""Blobs in an object store. moto's server stands in for S3, over HTTP."""

from datetime import timedelta
from urllib.parse import urlsplit

import httpx2
import obstore
import pytest
from moto.server import ThreadedMotoServer

from core.config import get_settings
from core.models import BlobModel
from core.services.blob import BlobNotFound, blob_service

CONTENT = bytes(range(256)) * 50_000  # 12.8 MB, so an upload has more than one part


@pytest.fixture
def s3(settings, monkeypatch):
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    variables = {
        "ENDPOINT_URL": f"http://{host}:{port}",
        "ALLOW_HTTP": "true",
        "REGION": "us-east-1",
        "ACCESS_KEY_ID": "test",
        "SECRET_ACCESS_KEY": "test",
    }
    for name, value in variables.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    httpx2.put(f"http://{host}:{port}/bucket").raise_for_status()
    monkeypatch.setattr(get_settings(), "blob_url", "s3://bucket/blobs")
    yield
    server.stop()


async def test_blobs_in_s3(s3, client):
    async def pieces():
        for start in range(0, len(CONTENT), 1_000_000):
            yield CONTENT[start : start + 1_000_000]

    blob = await blob_service.upload(pieces(), "report.pdf")
    small = await blob_service.upload(b"small", "small.txt")
    assert await blob_service.download(str(blob.id)) == CONTENT
    assert await blob_service.download(str(small.id)) == b"small"

    # The service redirects its link to a link of the store, which is valid for a minute.
    redirected = await client.get(urlsplit(blob_service.link(str(blob.id))).path)
    assert redirected.status_code == 307
    downloaded = httpx2.get(redirected.headers["location"])
    assert downloaded.content == CONTENT
    assert "X-Amz-Expires=60" in redirected.headers["location"]

    await small.delete()
    assert await blob_service.delete_orphans(older_than=timedelta(seconds=-5)) == 1
    await blob_service.delete(str(blob.id))
    with pytest.raises(BlobNotFound):
        await blob_service.download(str(blob.id))
    assert await BlobModel.count() == 0
    assert [item async for batch in obstore.list(blob_service.store) for item in batch] == []
