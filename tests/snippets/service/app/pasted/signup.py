from fastapi import APIRouter

from core.models import UserModel

router = APIRouter()


async def create_user(email: str) -> UserModel:
    return await UserModel(email=email, display_name="Ada").insert()


# paste: app-tasks.md, Queueing Tasks
