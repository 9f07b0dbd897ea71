"""Emails to users and addresses, rendered from `app/templates/emails/`."""

from datetime import UTC, date, datetime, timedelta
from typing import Any

from core.models import UserModel
from core.services.blob import blob_service
from core.services.email import render_email, send_email

USER_NOT_FOUND = {"status": "skipped", "reason": "user_not_found"}
FILE_LINK_LIFETIME = timedelta(days=1)


async def email_user(
    user_id: str,
    template: str,
    subject: str,
    *,
    unsubscribe_link: str | None = None,
    **values: object,
) -> dict[str, str]:
    """Send an email to a user, unless the account no longer exists.

    Args:
        user_id: The user's id.
        template: The name of the template, without `.html` or `.txt`.
        subject: The subject line.
        unsubscribe_link: The link with which the user unsubscribes from such emails, if any.
        **values: The template's variables. `name`, `email` and `unsubscribe_link` are always set.

    Returns:
        The result for a task: `sent` with the address, or `skipped` with the reason.

    Raises:
        aiosmtplib.SMTPException: The mail server cannot be reached, or rejected the message.
        ValueError: The user's address is not valid.
    """
    user = await UserModel.get(user_id)
    if not user:
        return USER_NOT_FOUND
    return await email_address(
        user.email,
        template,
        subject,
        unsubscribe_link=unsubscribe_link,
        name=user.display_name,
        **values,
    )


async def email_address(
    to_email: str,
    template: str,
    subject: str,
    *,
    unsubscribe_link: str | None = None,
    **values: object,
) -> dict[str, str]:
    """Send an email to an address, for example to confirm it.

    If the address may belong to somebody else, the email must not contain what a user entered.

    Args:
        to_email: The address.
        template: The name of the template, without `.html` or `.txt`.
        subject: The subject line.
        unsubscribe_link: The link with which the reader unsubscribes from such emails, if any.
        **values: The template's variables. `email` and `unsubscribe_link` are always set.

    Returns:
        The result for a task: `sent` with the address.

    Raises:
        aiosmtplib.SMTPException: The mail server cannot be reached, or rejected the message.
        ValueError: The address is not valid.
    """
    content = render_email(
        template,
        email=to_email,
        unsubscribe_link=unsubscribe_link,
        **values,
    )
    await send_email(
        to_email=to_email,
        subject=subject,
        html_content=content.html_content,
        text_content=content.text_content,
        unsubscribe_link=unsubscribe_link,
    )
    return {"status": "sent", "user_email": to_email}


async def email_file(
    user_id: str,
    template: str,
    subject: str,
    blob_id: str,
    **values: Any,
) -> dict[str, str]:
    """Send a user an email with the link of a file.

    Args:
        user_id: The user's id.
        template: The name of the template. Its variables `link` and `until` are always set.
        subject: The subject line.
        blob_id: The blob of the file.
        **values: More variables of the template.

    Returns:
        The result for a task, as `email_user` returns it.
    """
    until = datetime.now(UTC) + FILE_LINK_LIFETIME
    link = blob_service.link(blob_id, FILE_LINK_LIFETIME.total_seconds())
    return await email_user(
        user_id,
        template,
        subject,
        link=link,
        until=show_time(until),
        **values,
    )


def show_time(time: datetime) -> str:
    """Return a time as text with its zone, such as `3 February 2027, 14:05 UTC`.

    Args:
        time: The time, in UTC.
    """
    return f"{show_day(time)}, {time:%H:%M} UTC"


def show_day(day: date) -> str:
    """Return a day as text, such as `3 February 2027`.

    Args:
        day: The day.
    """
    return f"{day.day} {day:%B %Y}"
