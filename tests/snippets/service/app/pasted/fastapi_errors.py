import logging

from fastapi import APIRouter, BackgroundTasks

from app.pasted.notes import note

app = APIRouter(prefix="/errors")
logger = logging.getLogger(__name__)


def process(data: str) -> None:
    raise ValueError(data)


# paste: fastapi-background-tasks.md, 6. Error Handling


@app.post("/risky")
def take_risk(background_tasks: BackgroundTasks):
    background_tasks.add_task(risky_task, "broken")
    background_tasks.add_task(note, "behind the risky task")
