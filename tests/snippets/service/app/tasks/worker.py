# paste: app-tasks.md, Worker Setup
# paste: app-tasks.md, Task Registration
from . import backends, example, external, limits, notifications, webhooks
from . import taskplugins, startup, manual, triggers
