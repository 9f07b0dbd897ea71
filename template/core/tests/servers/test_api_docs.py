"""The API pages, which load nothing from other hosts."""

import gzip
import re

import pytest

from core.entry import Service
from core.tests import service
from core.tests.servers.changed_app import OpenClient
from core.web.pages import FOLDER

PAGES = ["/docs", "/redoc", "/docs/oauth2-redirect"]


def list_links(page: str) -> list[str]:
    return re.findall(r'(?:href|src|spec-url|data-schema|data-redirect)="([^"]+)"', page)


@pytest.mark.parametrize("path", PAGES)
async def test_all_files_of_a_page_come_from_this_service(open_client: OpenClient, path):
    client = open_client()
    page = await client.get(path)
    links = list_links(page.text)
    assert links
    for link in links:
        assert re.match(r"/[^/]", link)
        assert (await client.get(link)).status_code == 200
    assert "://" not in page.text
    assert page.headers["x-content-type-options"] == "nosniff"
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self';" in policy
    assert "frame-ancestors 'none'" in policy
    assert ":" not in re.sub(r"\b(data|blob):", "", policy)  # no host
    assert not re.search(r"<script>|<script [^>]*>[^<]|\son\w+=", page.text)


async def test_a_browser_decompresses_the_files(open_client: OpenClient):
    client = open_client()
    for name, start in (
        ("swagger-ui-bundle.js.gz", "/*! For license information"),
        ("swagger-ui.css.gz", ".swagger-ui"),
        ("redoc.js.gz", "/*! For license information"),
    ):
        response = await client.get(f"/core-static/{name}")
        assert response.text.startswith(start)
        kind = "text/css" if ".css" in name else "text/javascript"
        assert response.headers["content-type"].startswith(kind)
        assert response.headers["content-encoding"] == "gzip"
        assert int(response.headers["content-length"]) < 500_000
        unchanged = {"If-None-Match": response.headers["etag"]}
        again = await client.get(f"/core-static/{name}", headers=unchanged)
        assert again.status_code == 304
        assert again.content == b""


@pytest.mark.parametrize("name", ["..%2fpages.py", "../pages.py", "%2e%2e/pages.py", "nothing.js"])
async def test_no_other_file_is_served(open_client: OpenClient, name):
    assert (await open_client().get(f"/core-static/{name}")).status_code == 404


@pytest.mark.parametrize(
    ("paths", "found", "missing"),
    [
        ({}, PAGES, []),
        ({"docs_url": None}, ["/redoc", "/openapi.json"], ["/docs", "/docs/oauth2-redirect"]),
        ({"redoc_url": None}, ["/docs"], ["/redoc"]),
        ({"openapi_url": None}, [], [*PAGES, "/openapi.json"]),
        ({"docs_url": "/a/b", "redoc_url": "/"}, ["/a/b", "/"], ["/docs", "/redoc"]),
        ({"openapi_url": "/schema"}, [*PAGES, "/schema"], ["/openapi.json"]),
    ],
)
async def test_a_service_chooses_the_paths(open_client: OpenClient, paths, found, missing):
    client = open_client(service=Service([], [], service.worker, **paths))
    for path in found:
        page = await client.get(path)
        assert page.status_code == 200
        for link in list_links(page.text):
            assert (await client.get(link)).status_code == 200, link
    for path in missing:
        assert (await client.get(path)).status_code == 404


async def test_the_pages_are_closed_like_the_schema(open_client: OpenClient):
    production = {"environment": "production", "public_url": "https://test"}
    for changes, status in (
        ({"api_docs": False}, 404),
        (production, 404),
        ({**production, "api_docs": True}, 200),
    ):
        client = open_client(**changes)
        for path in [*PAGES, "/openapi.json"]:
            assert (await client.get(path)).status_code == status


async def test_a_proxy_may_serve_the_pages_below_a_path(open_client: OpenClient):
    client = open_client(root_path="/shop")
    for path in PAGES:
        links = list_links((await client.get(path)).text)
        assert links
        for link in links:
            assert link.startswith("/shop/")
            # A proxy may pass on the whole path, or remove its start.
            for each in (link, link.removeprefix("/shop")):
                assert (await client.get(each)).status_code == 200
    assert (await client.get("/openapi.json")).json()["servers"] == [{"url": "/shop"}]


async def test_the_pages_are_no_part_of_the_api(open_client: OpenClient):
    client = open_client(environment="development")
    paths = (await client.get("/openapi.json")).json()["paths"]
    own = ("/docs", "/redoc", "/console", "/dev", "/core-static")
    assert not [path for path in paths if path == "/" or path.startswith(own)]


async def test_the_files_are_compressed_in_one_way():
    """Otherwise an update would change a file whose content is the same."""
    files = list((FOLDER / "static").glob("*.gz"))
    assert len(files) >= 3
    for file in files:
        assert file.read_bytes()[4:8] == b"\0\0\0\0"  # no time
        assert gzip.decompress(file.read_bytes())
