"""The start page of a service in development. It links to all other pages."""

from dotenv import dotenv_values
from fastapi import APIRouter, Depends, Request, Response

from core.config import ROOT, Settings, find_address
from core.entry import Service
from core.local_servers import FOLDER
from core.web.health import check_servers
from core.web.mail_viewer import find_mails
from core.web.pages import require_local, show_page


def start_router(service: Service, settings: Settings) -> APIRouter:
    """Return the router with the start page.

    Args:
        service: The service.
        settings: The settings with the addresses of the servers.
    """
    router = APIRouter(include_in_schema=False, dependencies=[Depends(require_local)])

    @router.get("/")
    async def show_start(request: Request) -> Response:
        checks, notes = await check_servers(request.app.state.database, service.worker)
        is_up = checks["database"] == "ok"
        caught_url = dotenv_values(FOLDER / "mail.env").get("SMTP_URL")
        return show_page(
            request,
            "start",
            version=request.app.version,
            description=request.app.description,
            service=service,
            settings=settings,
            address=find_address,
            in_process=service.worker.queue.engine.in_process,
            checks=checks,
            workers=await service.worker.workers() if is_up else None,
            notes=notes,
            mails=len(find_mails()),
            catches_mail=find_address(caught_url or "") == find_address(str(settings.smtp_url)),
            folder=ROOT,
        )

    return router
