"""Runs the jobs of a workflow: the shell steps literally, each job in its own clone.

GitHub itself cannot be on this machine. A bare repository stands for its git server, and
`stand_in_gh.py` for its command `gh`. Actions that move files do so, and the others do nothing.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from conftest import ROOT, clean_environment, commit_all, git, run

PRE_RECEIVE = """\
#!/bin/sh
case "$GH_TOKEN" in
    *'"contents": "write"'*) exit 0 ;;
esac
echo 'Permission to push denied.' >&2
exit 1
"""


class Job(NamedTuple):
    """The result of a job: `success`, `failure` or `skipped`, its outputs, and its log."""

    result: str
    outputs: dict[str, str]
    log: str


class GitHub:
    """The repository of a service, with pull requests, issues and a workflow.

    Args:
        folder: An empty folder.
        service: The service that is pushed.
        environment: The folder for the packages of the service, which runs may share.
    """

    def __init__(self, folder: Path, service: Path, environment: Path) -> None:
        self.folder = folder
        self.environment = environment
        self.remote = folder / "remote.git"
        run("git", "clone", "--quiet", "--bare", str(service), str(self.remote), cwd=folder)
        hook = self.remote / "hooks" / "pre-receive"
        hook.write_text(PRE_RECEIVE)
        hook.chmod(0o755)
        self.state = folder / "state.json"
        self.write(pulls=[], issues=[], refusals={})
        gh = folder / "bin" / "gh"
        gh.parent.mkdir()
        gh.write_text(
            f'#!/bin/sh\nexec "{sys.executable}" "{ROOT / "tests" / "stand_in_gh.py"}" "$@"\n'
        )
        gh.chmod(0o755)
        self.runs = 0

    def read(self) -> dict[str, Any]:
        """Return the pull requests, the issues, and the refusals."""
        state: dict[str, Any] = json.loads(self.state.read_text())
        return state

    def write(self, **changes: Any) -> None:
        """Replace a part of the state."""
        state = self.read() if self.state.exists() else {}
        self.state.write_text(json.dumps({**state, **changes}))

    @property
    def pulls(self) -> list[dict[str, Any]]:
        """The pull requests, the oldest first."""
        pulls: list[dict[str, Any]] = self.read()["pulls"]
        return pulls

    def commit(self, branch: str, name: str, text: str) -> None:
        """Commit a file to a branch of the remote, as a person would."""
        clone = self.folder / f"person-{branch}-{len(list(self.folder.iterdir()))}"
        run("git", "clone", "-q", "-b", branch, str(self.remote), str(clone), cwd=self.folder)
        (clone / name).write_text(text)
        commit_all(clone, name)
        os_environment = {**clean_environment(), "GH_TOKEN": '{"contents": "write"}'}
        subprocess.run(["git", "push", "-q"], cwd=clone, env=os_environment, check=True)

    def files(self, branch: str) -> list[str]:
        """Return the files that a branch changes."""
        return git(self.remote, "diff", "--name-only", f"main...{branch}").split()

    def run_workflow(self, name: str) -> dict[str, Job]:
        """Run a workflow of the branch `main`, and return its jobs."""
        self.runs += 1
        folder = self.folder / f"run-{self.runs}"
        folder.mkdir()
        workflow = yaml.safe_load(git(self.remote, "show", f"main:.github/workflows/{name}"))
        done: dict[str, Job] = {}
        for job_name, job in workflow["jobs"].items():
            needs = job.get("needs", [])
            needs = [needs] if isinstance(needs, str) else needs
            context = {
                "needs": {need: {"outputs": done[need].outputs} for need in needs},
                "runner": {"temp": str(folder / f"{job_name}-temp")},
                "github": {
                    "token": json.dumps(job.get("permissions", workflow["permissions"])),
                    "repository": "someone/service",
                },
                "steps": {},
            }
            is_due = all(done[need].result == "success" for need in needs)
            if is_due and ("if" not in job or look_up(context, job["if"])):
                done[job_name] = self._run_job(job, context, folder / job_name)
            else:
                done[job_name] = Job("skipped", {}, "")
        return done

    def _run_job(self, job: dict[str, Any], context: dict[str, Any], clone: Path) -> Job:
        Path(context["runner"]["temp"]).mkdir()
        clone.mkdir()
        log = ""
        for number, step in enumerate(job["steps"]):
            if "run" not in step:
                use(step, context, clone, self.remote)
                continue
            output = Path(context["runner"]["temp"], f"output-{number}")
            output.touch()
            environment = self._environment(context, step, output)
            done = subprocess.run(
                ["bash", "-e", "-c", step["run"]],
                cwd=clone,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=600,
            )
            log += done.stdout
            lines = output.read_text().splitlines()
            outputs = dict(line.split("=", 1) for line in lines)
            if "id" in step:
                context["steps"][step["id"]] = {"outputs": outputs}
            if done.returncode:
                return Job("failure", {}, log)
        given = {name: fill(context, text) for name, text in job.get("outputs", {}).items()}
        return Job("success", given, log)

    def _environment(
        self, context: dict[str, Any], step: dict[str, Any], output: Path
    ) -> dict[str, str]:
        path = [str(self.folder / "bin"), str(ROOT / ".cache" / "uv" / "bin"), os.environ["PATH"]]
        return {
            **clean_environment(),
            "PATH": ":".join(path),
            "GIT_CONFIG_GLOBAL": os.devnull,  # a runner has no author
            "UV_PROJECT_ENVIRONMENT": str(self.environment),
            "GH_STATE": str(self.state),
            "GITHUB_OUTPUT": str(output),
            "GITHUB_SHA": git(self.remote, "rev-parse", "main").strip(),
            "GITHUB_REF_NAME": "main",
            "GITHUB_RUN_ID": str(self.runs),
            "GITHUB_SERVER_URL": "https://github.example",
            "GITHUB_REPOSITORY": "someone/service",
            "RUNNER_TEMP": context["runner"]["temp"],
            **{name: fill(context, text) for name, text in step.get("env", {}).items()},
        }


def look_up(context: dict[str, Any], path: str) -> str:
    """Return the value of an expression such as `needs.look.outputs.branch`, or nothing."""
    value: Any = context
    for name in path.split("."):
        value = value.get(name, {})
    return value or ""


def fill(context: dict[str, Any], text: str) -> str:
    """Replace the expressions in a text."""
    return re.sub(r"\$\{\{ ([\w.-]+) \}\}", lambda match: look_up(context, match[1]), text)


def use(step: dict[str, Any], context: dict[str, Any], clone: Path, remote: Path) -> None:
    """Do what an action does, as far as it concerns files."""
    action = step["uses"].partition("@")[0]
    options = step.get("with", {})
    artifacts = remote.parent / "artifacts"
    if action == "actions/checkout":
        url = f"file://{remote}"
        run("git", "clone", "-q", "--depth=1", "-b", "main", url, str(clone), cwd=clone)
    elif action == "actions/upload-artifact":
        target = artifacts / options["name"]
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(fill(context, options["path"]), target)
    elif action == "actions/download-artifact":
        shutil.copytree(artifacts / options["name"], fill(context, options["path"]))
    else:
        assert action in {"actions/cache/restore", "astral-sh/setup-uv"}
