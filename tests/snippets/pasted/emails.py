# emails.py
from core.models import UserModel
from app.tasks.worker import worker
from core.services.email import send_email

@worker.task()
async def send_welcome_email(user_id: str) -> dict[str, str]:
    """Send welcome email to new user."""

    # Access context for HTTP client, etc.
    # ctx = worker.context

    user = await UserModel.get(user_id)
    if not user:
        return {"status": "skipped", "reason": "user_not_found"}

    await send_email(
        to_email=user.email,
        subject="Welcome!",
        html_content=f"<h1>Welcome {user.display_name}!</h1>",
        text_content=f"Welcome {user.display_name}!"
    )

    return {"status": "sent", "user_email": user.email}

@worker.task()
async def send_daily_digest() -> dict:
    """Send daily digest to all users."""
    users = await UserModel.find_all().to_list()

    sent_count = 0
    for user in users:
        # Process each user...
        sent_count += 1

    return {"sent_count": sent_count}
