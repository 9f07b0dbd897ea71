from fastapi import APIRouter, BackgroundTasks

from app.pasted.fastapi_basic import write_log
from app.pasted.notes import note

app = APIRouter(prefix="/many")
task_id, user_id = 1, 2


def update_search_index(task_id: int) -> None:
    note("index", task_id)


def send_notification(user_id: int) -> None:
    note("notification", user_id)


def update_analytics(event: str) -> None:
    note("analytics", event)


# paste: fastapi-background-tasks.md, 3. Multiple Background Tasks


async def run_in_order() -> None:
    background_tasks = BackgroundTasks()

    def task_a() -> None:
        note("a")

    async def task_b() -> None:
        note("b")

    def task_c() -> None:
        note("c")

    # paste: fastapi-background-tasks.md, Task Execution Order
    await background_tasks()
