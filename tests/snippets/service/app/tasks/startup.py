import asyncio
from concurrent.futures import ThreadPoolExecutor

# paste: scheduled-tasks.md, Automatic Registration


# Schedules are declared when a module is imported, and an event loop may run in this thread.
with ThreadPoolExecutor() as threads:
    threads.submit(asyncio.run, startup_event()).result()
