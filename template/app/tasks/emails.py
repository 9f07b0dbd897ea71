"""E-mails, sent as jobs."""

from app.tasks.worker import worker
from core.config import get_settings
from core.models import UserModel
from core.services.email import render_email, send_email
from core.tasks import Sensitive


@worker.task(max_retries=5, retry_delay=30, timeout=60)
async def send_welcome_email(user_id: str) -> dict[str, str]:
    """Greet a new user."""
    user = await UserModel.get(user_id)
    if not user:
        return {"status": "skipped", "reason": "user_not_found"}

    html, text = render_email("welcome", name=user.display_name)
    await send_email(to_email=user.email, subject="Welcome!", html_content=html, text_content=text)
    return {"status": "sent", "user_email": user.email}


@worker.task(max_retries=5, retry_delay=30, timeout=60)
async def send_password_reset(user_id: str, token: Sensitive[str]) -> dict[str, str]:
    """Send the link by which a password is chosen anew. The token is encrypted in the queue and masked in logs."""
    user = await UserModel.get(user_id)
    if not user:
        return {"status": "skipped", "reason": "user_not_found"}

    link = f"{get_settings().public_url}reset?token={token}"
    html, text = render_email("password_reset", name=user.display_name, link=link)
    await send_email(to_email=user.email, subject="Reset your password", html_content=html, text_content=text)
    return {"status": "sent", "user_email": user.email}
