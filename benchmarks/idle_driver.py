"""Run by `idle.py` inside the service that it renders."""

import os
import secrets
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from core.dev.servers import MONGODB, VALKEY, free_port, start_server

COMMANDS = {"groundwork": ["-m", "core", "worker"], "streaq": ["bare_app.py", "work"]}
WARM_SECONDS = 8.0


def cpu_seconds(pid: int) -> float:
    """User and system time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def megabytes(pid: int) -> float:
    """Resident memory of a process."""
    (line,) = (line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


def main() -> None:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 60.0
    with tempfile.TemporaryDirectory() as folder:
        os.environ |= {"SECRET_KEY": secrets.token_hex(32), "HITS": f"{folder}/hits", "LOG_FORMAT": "json"}
        processes: list[subprocess.Popen[bytes]] = []
        try:
            for server in (MONGODB, VALKEY):
                port = free_port()
                processes.append(start_server(server, Path(folder) / server.name, port))
                os.environ[server.setting] = server.url(port)
            workers = {name: subprocess.Popen([sys.executable, *words]) for name, words in COMMANDS.items()}
            processes += workers.values()
            time.sleep(WARM_SECONDS)
            before = {name: cpu_seconds(worker.pid) for name, worker in workers.items()}
            time.sleep(seconds)
            figures = {
                name: (megabytes(worker.pid), (cpu_seconds(worker.pid) - before[name]) / seconds)
                for name, worker in workers.items()
            }
            for name, (memory, share) in figures.items():
                print(f"{name:<11} {memory:4.0f} MB, {share:.2%} of a core")
            memory, share = (ours / bare for ours, bare in zip(figures["groundwork"], figures["streaq"], strict=True))
            print(f"{memory:.1f}x the memory and {share:.1f}x the time of bare streaq (to reach: 100 MB, 1 %)")
        finally:
            for process in reversed(processes):  # the workers first, which would complain
                process.kill()
                process.wait()


if __name__ == "__main__":
    main()
