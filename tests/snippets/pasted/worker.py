# worker.py
from core.tasks.worker import worker

# ⚠️ Import task modules LAST so decorators can register
from . import emails  # noqa: E402, F401
from . import reports  # noqa: E402, F401
from . import processing  # noqa: E402, F401
from . import cleanup  # noqa: E402, F401
