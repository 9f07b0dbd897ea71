"""A service finds its files from any working directory."""

import subprocess
import sys
from pathlib import Path

from core.tests.processes.conftest import environment

FILES = {
    "pyproject.toml": '[project]\nname = "parcels"\nversion = "1.2.3"\n',
    ".env": f"SECRET_KEY={'x' * 32}\nMONGODB_URL=mongodb://127.0.0.1:1\nPORT=8123\n",
    "app/templates/emails/hello.html": "<p>Hello {{ name }}</p>",
    "app/templates/emails/hello.txt": "Hello {{ name }}",
}

SCRIPT = """
import obstore
from core.config import get_settings
from core.entry import load_service
from core.services.blob import blob_service
from core.services.email import render_email
from core.web import create_app

settings = get_settings()
app = create_app(load_service(settings), settings)
print(app.title, app.version, settings.port)
print(render_email("hello", name="Ada").text_content)
obstore.put(blob_service.store, "file", b"content")
"""


def test_a_service_finds_its_files_from_any_directory(root: Path, elsewhere: Path):
    for name, text in FILES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        cwd=elsewhere,
        env=environment(root, SECRET_KEY=None, MONGODB_URL=None),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.stderr == ""
    assert done.stdout == "parcels 1.2.3 8123\nHello Ada\n"
    assert (root / ".dev" / "blobs" / "file").read_bytes() == b"content"
    assert list(elsewhere.iterdir()) == []
