"""The image is built and started, on a base of Debian's packages in place of the registry's."""

import re
import subprocess
from pathlib import Path

import pytest
import yaml
from conftest import ROOT, duplicate, run, run_deployed

SCRIPT = str(ROOT / "script" / "image")
CANNOT = 3
"""The exit status of the script if it cannot install podman."""
SECRETS = (".env", "production/production.env", "ca.key", "valkey.pem")
"""Files to which docs/deploy.md writes secrets."""
NAP = '''
"""A task that takes its time."""

import asyncio

from core.tasks.worker import worker


@worker.task
async def nap(seconds: float) -> str:
    await asyncio.sleep(seconds)
    return "rested"
'''


def prepare() -> None:
    """Install podman, and make the base image. Without root, skip the test."""
    done = subprocess.run([SCRIPT, "prepare"], capture_output=True, text=True)
    if done.returncode == CANNOT:
        pytest.skip(done.stderr.strip())
    assert done.returncode == 0, done.stderr


def read_sign_up(service: Path) -> str:
    """Return the commands of the workflow that do a job."""
    workflow = yaml.safe_load((service / ".github" / "workflows" / "ci.yml").read_text())
    steps = workflow["jobs"]["image"]["steps"]
    (commands,) = [step["run"] for step in steps if "/signup" in step.get("run", "")]
    return str(commands)


def read_page() -> list[str]:
    """Return the commands of docs/deploy.md that build and start the image, in their order."""
    page = (ROOT / "docs" / "deploy.md").read_text()
    return re.findall(r"^~/groundwork/script/image (.*)$", page, re.MULTILINE)


def test_the_script_explains_itself(tmp_path: Path) -> None:
    for options in ([], ["--help"]):
        printed = run(SCRIPT, *options, cwd=tmp_path).stdout
        assert "script/image build TAG FOLDER" in printed
        assert "set -eu" not in printed


def test_the_image_runs_web_and_worker(queue_service: Path, tmp_path: Path) -> None:
    prepare()
    service = duplicate(queue_service, tmp_path / "service")
    (service / "app" / "tasks" / "nap.py").write_text(NAP)
    with (service / "app" / "tasks" / "worker.py").open("a") as worker:
        worker.write("from . import nap\n")
    for name in SECRETS:
        (service / name).parent.mkdir(exist_ok=True)
        (service / name).write_text("SECRET_KEY=this-secret-must-not-be-in-the-image\n")
    image = f"localhost/{tmp_path.name}".replace("_", "-")
    prepared, build, start_web, start_worker = read_page()
    assert prepared == "prepare"
    assert build == "build my-service ."
    starts = {"START_WEB": start_web, "START_WORKER": start_worker}
    variables = {"IMAGE": image, "IMAGE_SCRIPT": SCRIPT, "SIGN_UP": read_sign_up(service), **starts}
    run(SCRIPT, "build", image, ".", cwd=service)
    try:
        run_deployed("test_containers.py", service, **variables)
    finally:
        run(SCRIPT, "rmi", "--force", image, cwd=tmp_path)
        run(SCRIPT, "image", "prune", "--force", cwd=tmp_path)  # the first stage


def test_git_ignores_the_secrets(queue_service: Path) -> None:
    for name in SECRETS:
        run("git", "check-ignore", "--no-index", name, cwd=queue_service)


def test_all_packages_have_wheels_for_the_image(queue_service: Path) -> None:
    """The image has no compiler. Its Python is the newest one of the workflow."""
    (python,) = re.findall(r"^ARG BASE=python:(3\.\d+)-slim$", read_dockerfile(), re.MULTILINE)
    workflow = yaml.safe_load((queue_service / ".github" / "workflows" / "ci.yml").read_text())
    assert workflow["jobs"]["ci"]["strategy"]["matrix"]["python"][-1] == python
    tag = f"cp{python.replace('.', '')}"
    fits = re.compile(rf"-{tag}-{tag}-|-abi3-|\.abi3t-|-py3-none-")
    locks = ROOT / "template" / "uv.lock.jinja"  # it has the packages of all variants
    packages = locks.read_text().split("[[package]]")
    checked = 0
    for package in packages:
        wheels = re.findall(r"/([^/\"]+\.whl)", package)
        if not wheels or any("none-any" in wheel for wheel in wheels):
            continue
        linux = [wheel for wheel in wheels if "manylinux" in wheel and fits.search(wheel)]
        if not linux and all("macosx" in wheel for wheel in wheels):
            continue  # a package for development on macOS
        for machine in ("x86_64", "aarch64"):
            assert any(machine in wheel for wheel in linux), wheels[0]
        checked += 1
    assert checked > 10


def read_dockerfile() -> str:
    return (ROOT / "template" / "core" / "Dockerfile").read_text()
