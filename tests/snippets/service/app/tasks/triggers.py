import ast

from app.tasks.worker import worker

BLOCKS = '''
# paste: scheduled-tasks.md, Interval Trigger

# paste: scheduled-tasks.md, Cron Trigger

# paste: scheduled-tasks.md, Date Trigger
'''


@worker.task
async def tick() -> None: ...


for number, statement in enumerate(ast.parse(BLOCKS).body):
    value = ast.literal_eval(ast.unparse(statement))
    arguments = value.get("trigger_args", value)
    trigger = value.get("trigger", "cron")
    worker.schedule(tick, trigger, id=f"trigger-{number}", **arguments)
