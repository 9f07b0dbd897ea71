"""Forwards to `core/update/merge.py`.

Services from before the first release run this file of the version that they update to. Delete it
when no such service is left.
"""

import runpy
from pathlib import Path

if __name__ == "__main__":
    folder = Path(__file__).resolve().parents[1] / "update"
    runpy.run_path(str(folder / "merge.py"), run_name="__main__")
