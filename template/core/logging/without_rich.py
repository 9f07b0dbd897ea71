"""Import structlog without rich.

If rich is installed, structlog imports it to print tracebacks with all local variables. Core prints
its own tracebacks, and rich would cost each process 4 MB and 50 ms. Remove this module when
structlog imports rich only to print.
"""

import sys

_hidden = "rich" not in sys.modules
if _hidden:
    sys.modules["rich"] = None  # type: ignore[assignment]
try:
    import structlog as structlog
finally:
    if _hidden:
        del sys.modules["rich"]
