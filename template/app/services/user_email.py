"""Emails to users, rendered from `app/templates/emails/`."""

from core.models import UserModel
from core.services.email import render_email, send_email

USER_NOT_FOUND = {"status": "skipped", "reason": "user_not_found"}


async def email_user(
    user_id: str,
    template: str,
    subject: str,
    **values: object,
) -> dict[str, str]:
    """Send an email to a user, unless the account no longer exists.

    Args:
        user_id: The user's id.
        template: The name of the template, without `.html` or `.txt`.
        subject: The subject line.
        **values: The template's variables. `name` is always set.

    Returns:
        The result for a task: `sent` with the address, or `skipped` with the reason.

    Raises:
        aiosmtplib.SMTPException: The mail server cannot be reached, or rejected the message.
        ValueError: The user's address is not valid.
    """
    user = await UserModel.get(user_id)
    if not user:
        return USER_NOT_FOUND
    content = render_email(template, name=user.display_name, **values)
    await send_email(
        to_email=user.email,
        subject=subject,
        html_content=content.html_content,
        text_content=content.text_content,
    )
    return {"status": "sent", "user_email": user.email}
