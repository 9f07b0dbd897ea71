import anyio.from_thread

from app.tasks.worker import worker


class TaskManager:
    """`add_task` is `worker.schedule`, and `list_tasks` is `worker.schedules.list`."""

    def add_task(self, **schedule) -> None:
        worker.schedule(**schedule)

    def list_tasks(self):
        return anyio.from_thread.run(worker.schedules.list)

    def start(self) -> None:
        """Each worker runs the schedules."""


class Manager:
    task_manager = TaskManager()


class TaskCreate: ...
