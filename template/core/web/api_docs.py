"""The API pages. Unlike FastAPI's own, they load nothing from other hosts."""

from fastapi import APIRouter, Request, Response

from core.entry import Service
from core.web.pages import POLICY, show_page

# Both libraries write styles into the page, and ReDoc searches in a worker from a blob.
DOCS_POLICY = POLICY.format(
    "script-src 'self'; connect-src 'self'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; worker-src blob:; "
)


def docs_router(service: Service) -> APIRouter:
    """Return the router with the API pages.

    Args:
        service: The service, which names their paths.
    """
    router = APIRouter(include_in_schema=False)

    def add(path: str | None, template: str) -> None:
        async def show(request: Request) -> Response:
            return show_page(request, template, policy=DOCS_POLICY, schema=service.openapi_url)

        if path:
            router.add_api_route(path, show)

    add(service.docs_url, "swagger")
    add(service.docs_url and "/docs/oauth2-redirect", "oauth2_redirect")
    add(service.redoc_url, "redoc")
    return router
