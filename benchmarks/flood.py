"""The wait for a welcome mail, in a quiet service and during a flood of slow webhooks.

Goal: at most twice as long. One user has 20 subscriptions to a receiver that never answers, and
publishes 60 events. This makes 1,200 deliveries of 10 s each, on the 50 slots of one worker. The
wait for a mail is the time from `enqueue` until the mail server has it.

    script/uv run python benchmarks/flood.py [MAILS]
"""

import sys

from rendering import run_driver

TASKS = '"""No further tasks: the driver uses those of the service."""\n'

if __name__ == "__main__":
    sys.exit(run_driver("flood", TASKS, *sys.argv[1:]))
