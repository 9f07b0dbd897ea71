"""The alert rules and the dashboard are valid, and the alerts fire when they should."""

import json
import re
from typing import Any

import pytest
import yaml
from conftest import ROOT, run

CORE = ROOT / "template" / "core"
ALERTS = CORE / "deploy" / "prometheus" / "alerts.yaml"
DASHBOARD = CORE / "deploy" / "grafana" / "dashboard.json"


@pytest.fixture(scope="module")
def promtool() -> str:
    folder = run(str(ROOT / "script" / "prometheus"), cwd=ROOT).stdout.strip()
    return f"{folder}/promtool"


def test_the_alert_rules_are_valid(promtool: str) -> None:
    done = run(promtool, "check", "rules", str(ALERTS), cwd=ROOT)
    assert "SUCCESS: 9 rules found" in done.stdout


def test_each_alert_fires_when_it_should(promtool: str) -> None:
    run(promtool, "test", "rules", str(ROOT / "tests" / "alerts.yaml"), cwd=ROOT)
    tested = (ROOT / "tests" / "alerts.yaml").read_text()
    for name in find_alerts():
        assert len(re.findall(rf"alertname: {name}\b", tested)) >= 2, f"{name} is not tested"


def test_each_alert_is_explained() -> None:
    document = (CORE / "docs" / "alerts.md").read_text()
    explained = re.findall(r"^## (\w+)$", document, re.MULTILINE)
    assert explained == find_alerts()


def test_the_panels_of_the_dashboard_do_not_overlap() -> None:
    dashboard = json.loads(DASHBOARD.read_text())
    taken: set[tuple[int, int]] = set()
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        cells = {
            (place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])
        }
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])


def find_alerts() -> list[str]:
    groups: list[dict[str, Any]] = yaml.safe_load(ALERTS.read_text())["groups"]
    return [rule["alert"] for group in groups for rule in group["rules"]]
