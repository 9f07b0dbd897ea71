import asyncio

from fastapi import APIRouter, BackgroundTasks, Depends

from app.pasted.notes import note

app = APIRouter(prefix="/basic")


# paste: fastapi-background-tasks.md, 1. Basic Background Task

# paste: fastapi-background-tasks.md, 2. Task with Multiple Parameters

# paste: fastapi-background-tasks.md, 4. Async Background Tasks

# paste: fastapi-background-tasks.md, 5. Background Tasks in Dependencies


# `[...]` above stands for items, and is not JSON.
@app.get("/no-items")
def get_no_items(bg: BackgroundTasks = Depends(log_dependency)):
    return {"items": []}
