"""The built-in hooks: email to the administrators, and a signed webhook."""

import asyncio
from dataclasses import asdict
from functools import partial
from urllib.parse import urlsplit

import httpx2
from pydantic_core import to_json

from core.config import Settings, get_settings
from core.errors import UserError
from core.logging import get_logger
from core.models import UserModel
from core.services.email import render_email, send_email
from core.services.webhooks import post_webhook
from core.tasks.alerts.alerts import Alert
from core.tasks.failures import Hook

logger = get_logger(__name__)


def make_ready_hooks(settings: Settings, client: httpx2.AsyncClient) -> list[Hook]:
    """Return the hooks that the settings turn on. The client is for the webhook."""
    hooks: list[Hook] = []
    sends_mail = settings.alert_mail
    if sends_mail is None:
        sends_mail = settings.is_production
    if sends_mail:
        hooks.append(_mail_administrators)
    if settings.alert_webhook_url and settings.alert_webhook_secret:
        secret = settings.alert_webhook_secret.get_secret_value()
        hooks.append(partial(_post_alert, client, str(settings.alert_webhook_url), secret))
    return hooks


async def _mail_administrators(alert: Alert) -> None:
    admins = await UserModel.get_pymongo_collection().find({"is_admin": True}).to_list()
    if not admins:
        raise UserError("no administrator exists, so nobody got the alert; run `just admin EMAIL`")
    mails = [_mail(alert, admin["email"]) for admin in admins]
    results = await asyncio.gather(*mails, return_exceptions=True)
    errors = [each for each in results if isinstance(each, BaseException)]
    if len(errors) == len(admins):
        raise errors[0]
    for error in errors:  # the other administrators have the email, and must not get it twice
        logger.error("an administrator did not get an alert", error=repr(error))


async def _mail(alert: Alert, email: str) -> None:
    title = f"Ended: {alert.title}" if alert.ended else alert.title
    subject = " ".join(f"[{get_settings().service_name}] {title}".split())
    body = render_email("core_alert", alert=alert, email=email)
    await send_email(to_email=email, subject=subject, **body._asdict())


async def _post_alert(client: httpx2.AsyncClient, url: str, secret: str, alert: Alert) -> None:
    event = {"type": "alert.ended" if alert.ended else "alert.raised", "data": asdict(alert)}
    status = await post_webhook(client, url, to_json(event).decode(), secret, alert.id)
    if status >= 300:
        raise UserError(f"{urlsplit(url).hostname} answered {status}")
