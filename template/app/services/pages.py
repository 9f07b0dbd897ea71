"""HTML pages, rendered from `app/templates/pages/`."""

from fastapi import Request, Response
from fastapi.templating import Jinja2Templates

from core.config import ROOT, get_settings
from core.web import PAGE_HEADERS

pages = Jinja2Templates(ROOT / "app" / "templates" / "pages")


def show_page(
    request: Request,
    template: str,
    status: int = 200,
    **values: object,
) -> Response:
    """Return a page.

    Args:
        request: The request.
        template: The name of the template, without `.html`.
        status: The response's status.
        **values: The template's variables. `service_name` is always set.
    """
    return pages.TemplateResponse(
        request,
        f"{template}.html",
        {"service_name": get_settings().service_name, **values},
        status_code=status,
        headers=PAGE_HEADERS,
    )
