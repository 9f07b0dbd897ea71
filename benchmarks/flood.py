"""Measures the wait for a welcome mail, in a quiet service and during a flood of other jobs.

Goal: at most twice as long. The wait for a mail is the time from `enqueue` until the mail server
has it. One worker has 50 slots. There are two floods:

- `events`: one user has 20 subscriptions to a receiver that never answers, and publishes 60 events.
  This makes 1,200 deliveries of 10 s each.
- `images`: seven users upload 70 images of 24 million pixels.

    script/uv run python benchmarks/flood.py [events|images] [MAILS]
"""

import sys

from rendering import run_driver

TASKS = '"""No further tasks: the driver uses the tasks of the service."""\n'

if __name__ == "__main__":
    sys.exit(run_driver("flood", TASKS, *sys.argv[1:]))
