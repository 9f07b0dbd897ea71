"""A stand-in for `gh`, GitHub's command, because GitHub itself cannot be on this machine.

It keeps pull requests and issues in the file that GH_STATE names, and knows the calls of the
workflows only. It refuses what GitHub refuses. The token is the JSON of the job's permissions.
"""

import argparse
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

STATE = Path(os.environ["GH_STATE"])
MAX_BODY = 65_536
JQ = '.[] | select(.headRefName | test("^update-v?[0-9]")) | .number'
LEVELS = ["none", "read", "write"]


def check_right(state: dict[str, Any], scope: str, level: str) -> None:
    token = os.environ.get("GH_TOKEN")
    if not token:
        sys.exit("gh: To use GitHub CLI in a GitHub Actions workflow, set GH_TOKEN.")
    given = json.loads(token).get(scope, "none")
    if LEVELS.index(given) < LEVELS.index(level):
        sys.exit(f"GraphQL: Resource not accessible by integration ({scope}: {level})")
    refusal = state["refusals"].get(scope)
    if refusal:
        sys.exit(refusal)


def show(items: list[dict[str, Any]], fields: str) -> None:
    names = fields.split(",")
    chosen = [{name: item[name] for name in names} for item in items]
    print(json.dumps(chosen, separators=(",", ":")))


def list_pull_requests(state: dict[str, Any], given: argparse.Namespace) -> None:
    check_right(state, "pull-requests", "read")
    if given.head:
        show([pull for pull in state["pulls"] if pull["headRefName"] == given.head], given.json)
        return
    for pull in state["pulls"]:
        is_own = not pull["isCrossRepository"] and pull["state"] == "OPEN"
        if is_own and re.match("update-v?[0-9]", pull["headRefName"]):
            print(pull["number"])  # as JQ does


def close_pull_request(state: dict[str, Any], given: argparse.Namespace) -> None:
    check_right(state, "pull-requests", "write")
    if state["refusals"].get("close"):
        sys.exit(state["refusals"]["close"])
    (pull,) = [pull for pull in state["pulls"] if str(pull["number"]) == given.number]
    pull |= {"state": "CLOSED", "comment": given.comment}


def create_pull_request(state: dict[str, Any], given: argparse.Namespace) -> None:
    check_right(state, "pull-requests", "write")
    remote = subprocess.check_output(["git", "remote", "get-url", "origin"], text=True).strip()
    listed = subprocess.run(
        ["git", "rev-parse", "--verify", f"refs/heads/{given.head}"],
        cwd=remote.removeprefix("file://"),
        capture_output=True,
        text=True,
    )
    body = Path(given.body_file).read_text()
    if listed.returncode:
        sys.exit("pull request create failed: GraphQL: Head sha can't be blank")
    if state["refusals"].get("create"):
        sys.exit(state["refusals"]["create"])
    if given.draft and state["refusals"].get("draft"):
        sys.exit("GraphQL: Draft pull requests are not supported in this repository.")
    if len(body) > MAX_BODY:
        sys.exit("GraphQL: Body is too long (maximum is 65536 characters)")
    if any(p["headRefName"] == given.head and p["state"] == "OPEN" for p in state["pulls"]):
        sys.exit(f'a pull request for branch "{given.head}" already exists')
    state["pulls"].append(
        {
            "number": len(state["pulls"]) + 1,
            "headRefName": given.head,
            "isCrossRepository": False,
            "state": "OPEN",
            "base": given.base,
            "title": given.title,
            "body": body,
            "isDraft": given.draft,
        }
    )


def list_issues(state: dict[str, Any], given: argparse.Namespace) -> None:
    check_right(state, "issues", "read")
    text = given.search.removesuffix(" in:title").strip('"')
    show([issue for issue in state["issues"] if text in issue["title"]], given.json)


def create_issue(state: dict[str, Any], given: argparse.Namespace) -> None:
    check_right(state, "issues", "write")
    state["issues"].append({"number": 1, "title": given.title, "body": given.body})


def main() -> None:
    if sys.argv[1:] == ["auth", "setup-git"]:
        return
    commands = {
        "pr list": (list_pull_requests, ["json"]),
        "pr close": (close_pull_request, ["comment"]),
        "pr create": (create_pull_request, ["head", "base", "title", "body-file"]),
        "issue list": (list_issues, ["search", "json"]),
        "issue create": (create_issue, ["title", "body"]),
    }
    command, options = commands[" ".join(sys.argv[1:3])]
    parser = argparse.ArgumentParser()
    for option in options:
        parser.add_argument(f"--{option}", required=True)
    if command is list_pull_requests:
        parser.add_argument("--head")
        parser.add_argument("--state", choices=["all"])
        parser.add_argument("--author", choices=["app/github-actions"])
        parser.add_argument("--search", choices=["head:update-"])
        parser.add_argument("--jq", choices=[JQ])
    if command is close_pull_request:
        parser.add_argument("number")
    if command is list_issues:
        parser.add_argument("--state", choices=["all"], required=True)
    if command is create_pull_request:
        parser.add_argument("--draft", action="store_true")
    state = json.loads(STATE.read_text())
    command(state, parser.parse_args(sys.argv[3:]))
    STATE.write_text(json.dumps(state))


if __name__ == "__main__":
    main()
