"""The daily digest: unsubscribe with the link in the email, without logging in."""

from typing import Annotated

from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import HTMLResponse

from app.models.unsubscription import Unsubscription
from app.services.digest import read_token
from app.services.pages import show_page
from core.context import TaskContext
from core.services.audit import audit_log
from core.services.signatures import InvalidSignature

router = APIRouter(
    prefix="/digest",
    tags=["digest"],
    default_response_class=HTMLResponse,
    responses={404: {}},
)


@router.get("")
async def show_subscription(request: Request, token: str) -> Response:
    """Show the page that the emailed link opens.

    It changes nothing, because scanners of email open each link.
    """
    try:
        user_id = read_token(token)
    except InvalidSignature:
        return _refuse(request)
    unsubscribed = await Unsubscription.get(user_id)
    return show_page(request, "digest", subscribed=not unsubscribed)


@router.post("")
async def change_subscription(
    request: Request,
    token: str,
    resume: Annotated[bool, Form()] = False,
) -> Response:
    """Turn the digest off, or on again.

    The unsubscribe buttons of mail readers send this request too.
    """
    try:
        user_id = read_token(token)
    except InvalidSignature:
        return _refuse(request)
    TaskContext.set_actor(user_id)
    if resume:
        await Unsubscription.find(Unsubscription.id == user_id).delete()
        await audit_log("digest.resumed", user_id=user_id)
    else:
        await Unsubscription(id=user_id).save()
        await audit_log("digest.unsubscribed", user_id=user_id)
    return show_page(request, "digest", subscribed=resume)


def _refuse(request: Request) -> Response:
    return show_page(request, "digest", status=404, invalid=True)
