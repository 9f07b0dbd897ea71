"""Browsers of people with different rights, for the tests of the console."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import httpx2
from fastapi import FastAPI

from core.models import UserModel
from core.services.sessions import start_session
from core.web.auth import COOKIE

ROLES = ("stranger", "user", "viewer", "admin")
SAME_ORIGIN = {"Sec-Fetch-Site": "same-origin"}


class Browser(httpx2.AsyncClient):
    """A browser with one user. It sends forms like a page of the console."""

    async def submit(self, path: str, **form: object) -> httpx2.Response:
        """Send a form."""
        return await self.post(path, data=form, headers=SAME_ORIGIN)

    async def act(self, path: str, **form: object) -> str:
        """Send a form, and return the page that follows."""
        response = await self.submit(path, **form)
        assert response.status_code == 303, response.text
        return (await self.get(response.headers["location"])).text


@asynccontextmanager
async def open_browsers(app: FastAPI) -> AsyncIterator[Mapping[str, Browser]]:
    """Open the browsers of a stranger, a user, a viewer and an administrator."""
    transport = httpx2.ASGITransport(app, raise_app_exceptions=False)
    opened = {role: Browser(transport=transport, base_url="http://test") for role in ROLES}
    for role in ROLES[1:]:
        user = UserModel(
            email=f"{role}@example.com",
            display_name=role,
            is_admin=role == "admin",
            is_viewer=role == "viewer",
        )
        opened[role].cookies.set(COOKIE, await start_session(await user.insert()))
    yield opened
    for browser in opened.values():
        await browser.aclose()
