"""The files for deployment fit their schemas. No cluster and no systemd runs them here."""

import re
import shutil
import subprocess
import sys
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import kubernetes_validate  # type: ignore[import-untyped]
import pytest
import yaml
from conftest import ROOT, duplicate, run, run_deployed

BIN = Path(sys.executable).parent
INSTALL = str(ROOT / "script" / "debian")
CANNOT = 3
"""The exit status of the script if it cannot install packages."""
VERSION = "1.34"
"""The oldest Kubernetes that has not reached its end of life, so that no file needs a newer one."""
DEPLOY = Path("core", "deploy")
CHECKED = "never run"


def check_schema(schema: str, *files: Path) -> "subprocess.CompletedProcess[str]":
    """Check files by a schema that is part of the tool."""
    command = [str(BIN / "check-jsonschema"), "--builtin-schema", schema, *map(str, files)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def test_compose_files_fit_the_schema(service: Path, tmp_path: Path) -> None:
    files = [service / "compose.yaml", service / "core" / "compose.yaml"]
    done = check_schema("vendor.compose-spec", *files)
    assert done.returncode == 0, done.stdout
    wrong = tmp_path / "compose.yaml"
    wrong.write_text(files[1].read_text().replace("read_only: true", "read_only: [1]"))
    assert check_schema("vendor.compose-spec", wrong).returncode


def test_compose_is_safe_without_changes(service: Path) -> None:
    services = yaml.safe_load((service / "core" / "compose.yaml").read_text())["services"]
    ports = [port for each in services.values() for port in each.get("ports", [])]
    assert ports == ["127.0.0.1:${PORT:-8000}:${PORT:-8000}"]
    assert {each["logging"]["driver"] for each in services.values()} == {"local"}
    assert {each["restart"] for each in services.values()} == {"unless-stopped"}
    assert services["mongodb"]["stop_grace_period"] == "60s"
    if "valkey" in services:
        options = services["valkey"]["command"].split()
        for name in ("--maxmemory", "--appendonly", "--requirepass"):
            assert name in options


def test_workflows_fit_the_schema() -> None:
    folders = [ROOT / ".github", ROOT / "template" / ".github"]
    files = [path for folder in folders for path in (folder / "workflows").glob("*.yml")]
    done = check_schema("vendor.github-workflows", *files)
    assert done.returncode == 0, done.stdout


def read_manifests(service: Path) -> dict[str, dict[str, Any]]:
    """Return the Kubernetes objects of a service, by kind and name."""
    folder = service / DEPLOY / "kubernetes"
    kustomization = yaml.safe_load((folder / "kustomization.yaml").read_text())
    names = kustomization["resources"]
    assert {path.name for path in folder.iterdir()} == {*names, "kustomization.yaml"}
    objects = [each for name in names for each in yaml.safe_load_all((folder / name).read_text())]
    return {f"{each['kind']}/{each['metadata']['name']}": each for each in objects}


def test_manifests_fit_the_schema(service: Path) -> None:
    objects = read_manifests(service)
    has_worker = (service / "core" / "tasks" / "engines" / "redis").exists()
    processes = ["web", "worker"] if has_worker else ["web"]
    kinds = ["Deployment", "PodDisruptionBudget", "NetworkPolicy"]
    expected = {f"{kind}/{name}" for name in processes for kind in kinds}
    expected |= {"Service/web", "NetworkPolicy/outgoing"}
    scaled = objects.pop("ScaledObject/worker", None)
    assert (scaled is not None) is has_worker
    assert objects.keys() == expected
    for manifest in objects.values():
        kubernetes_validate.validate(manifest, VERSION, strict=True)


def test_the_schema_finds_a_fault(queue_service: Path) -> None:
    manifest = read_manifests(queue_service)["Deployment/web"]
    manifest["spec"]["template"]["spec"]["containers"][0]["prots"] = []
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(manifest, VERSION, strict=True)


def test_scaling_fits_the_schema(queue_service: Path, tmp_path: Path) -> None:
    """With at least one replica, `cooldownPeriod` has no effect, so the schema lacks it."""
    file = queue_service / DEPLOY / "kubernetes" / "worker-scaling.yaml"
    schema = ROOT / "tests" / "scaled_object.json"
    check = [str(BIN / "check-jsonschema"), "--schemafile", str(schema)]
    run(*check, str(file), cwd=ROOT)
    wrong = tmp_path / "scaling.yaml"
    wrong.write_text(file.read_text().replace("threshold:", "treshold:"))
    assert run(*check, str(wrong), cwd=ROOT, check=False).returncode


def build(folder: Path) -> dict[str, dict[str, Any]]:
    """Return the Kubernetes objects that kustomize builds, by kind and name."""
    done = run("kubectl", "kustomize", str(folder), cwd=folder)
    objects = list(yaml.safe_load_all(done.stdout))
    return {f"{each['kind']}/{each['metadata']['name']}": each for each in objects}


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not on this machine")
def test_kustomize_builds_the_example_of_the_page(queue_service: Path, tmp_path: Path) -> None:
    service = duplicate(queue_service, tmp_path / "service")
    folder = service / "production"
    folder.mkdir()
    page = (ROOT / "docs" / "deploy.md").read_text()
    (example,) = re.findall(r"^# kustomization\.yaml\n.*?(?=^```$)", page, re.MULTILINE | re.DOTALL)
    (settings,) = re.findall(r"^SECRET_KEY=\.\.\.\n.*?(?=^```$)", page, re.MULTILINE | re.DOTALL)
    (no_scaling,) = re.findall(r"^  - patch: \|\n.*?(?=^```$)", page, re.MULTILINE | re.DOTALL)
    (count,) = re.findall(r"`(replicas: \[.*?\])`", page)
    slug = yaml.safe_load((service / DEPLOY / "kubernetes" / "kustomization.yaml").read_text())
    name = slug["labels"][0]["pairs"]["app.kubernetes.io/name"]
    file = folder / "kustomization.yaml"
    file.write_text(example.replace("parcel-tracker", name))
    (folder / "production.env").write_text(settings)
    (folder / "ca.pem").write_text("a certificate\n")

    objects = build(folder)
    (secret,) = [each for each in objects.values() if each["kind"] == "Secret"]
    assert {"SECRET_KEY", "MONGODB_URL", "BLOB_URL"} <= secret["data"].keys()
    (authority,) = [each for each in objects.values() if each["kind"] == "ConfigMap"]
    for process in ("web", "worker"):
        deployment = objects[f"Deployment/{process}"]
        assert deployment["metadata"]["namespace"] == name
        pod = deployment["spec"]["template"]["spec"]
        (container,) = pod["containers"]
        assert container["image"] == f"registry.example.com/{name}:1.0.0"
        assert container["envFrom"] == [{"secretRef": {"name": secret["metadata"]["name"]}}]
        assert {"name": "ca", "mountPath": "/etc/service"} in container["volumeMounts"]
        assert {"name": "ca", "configMap": {"name": authority["metadata"]["name"]}} in pod[
            "volumes"
        ]
    for each in objects.values():
        if each["kind"] not in ("ScaledObject", "Secret", "ConfigMap"):
            kubernetes_validate.validate(each, VERSION, strict=True)

    file.write_text(f"{file.read_text()}{no_scaling}{count}\n")
    objects = build(folder)
    assert "ScaledObject/worker" not in objects
    assert objects["Deployment/worker"]["spec"]["replicas"] == 2


def read_grace_period(service: Path) -> int:
    settings = (service / "core" / "config" / "settings.py").read_text()
    (grace,) = re.findall(r"task_grace_period: NonNegativeFloat = (\d+)", settings)
    return int(grace)


def stop_limits(service: Path) -> dict[str, int]:
    """Return the seconds after which each process may be killed.

    A web process waits for its requests, then for its background tasks, and without the queue for
    its jobs. Each of these has the grace period.
    """
    has_worker = (service / "core" / "tasks" / "engines" / "redis").exists()
    grace = read_grace_period(service)
    if has_worker:
        return {"web": 2 * grace + 10, "worker": grace + 10}
    return {"web": 3 * grace + 10}


def test_compose_and_systemd_wait_for_the_grace_period(service: Path) -> None:
    services = yaml.safe_load((service / "core" / "compose.yaml").read_text())["services"]
    limits = stop_limits(service)
    for process, seconds in limits.items():
        assert services[process]["stop_grace_period"] == f"{seconds}s"
    units = list((service / DEPLOY / "systemd").iterdir())
    assert len(units) == len(limits)
    for unit in units:
        lines = unit.read_text().splitlines()
        process = unit.stem.rpartition("-")[2]
        assert f"TimeoutStopSec={limits[process]}" in lines
        assert "StartLimitIntervalSec=0" in lines


def test_pods_wait_for_the_grace_period(service: Path) -> None:
    objects = read_manifests(service)
    for name, seconds in stop_limits(service).items():
        pod = objects[f"Deployment/{name}"]["spec"]["template"]["spec"]
        (container,) = pod["containers"]
        pause = container.get("lifecycle", {}).get("preStop", {}).get("sleep", {"seconds": 0})
        assert pod["terminationGracePeriodSeconds"] == seconds + pause["seconds"]
        assert container["args"] == ["python", "-m", "core", name]


def test_pods_reach_the_internet_as_the_settings_allow(service: Path) -> None:
    *_, internet = read_manifests(service)["NetworkPolicy/outgoing"]["spec"]["egress"]
    settings = (service / "core" / "config" / "settings.py").read_text()
    (ports,) = re.findall(r"outbound_ports: .* = frozenset\(\{(.*)\}\)", settings)
    assert [each["port"] for each in internet["ports"]] == [int(port) for port in ports.split(",")]
    networks = [ip_network(each["ipBlock"]["cidr"]) for each in internet["to"]]
    assert {network.version for network in networks} == {4, 6}
    refused = [ip_network(cidr) for cidr in internet["to"][0]["ipBlock"]["except"]]
    for address in ("10.1.2.3", "127.0.0.1", "169.254.169.254", "172.31.0.1", "192.168.1.1"):
        assert any(ip_address(address) in network for network in refused)
    for address in ("::1", "fd00::1", "fe80::1", "::ffff:10.1.2.3"):
        assert not any(ip_address(address) in network for network in networks)


def test_a_failover_leaves_web_pods_ready(service: Path) -> None:
    """MongoDB and Sentinel elect a new primary within about half a minute."""
    pod = read_manifests(service)["Deployment/web"]["spec"]["template"]["spec"]
    probe = pod["containers"][0]["readinessProbe"]
    assert probe["periodSeconds"] * probe["failureThreshold"] >= 30


def test_scaling_asks_for_metrics_that_exist(queue_service: Path) -> None:
    """`core/tests/servers/test_web.py` shows that /metrics has them with a real queue."""
    triggers = read_manifests(queue_service)["ScaledObject/worker"]["spec"]["triggers"]
    metrics = (queue_service / "core" / "tasks" / "metrics.py").read_text()
    queries = [trigger["metadata"]["query"] for trigger in triggers]
    names = [re.findall(r"[a-z]+_[a-z_]+", query) for query in queries]
    assert names == [["queue_jobs"], ["queue_oldest_job_seconds"]]
    assert all(f'"{name}"' in metrics for (name,) in names)
    assert '{state="pending"}' in queries[0]
    assert '["state"]' in metrics


def install(*packages: str) -> None:
    """Install packages of Debian. Without root, skip the test."""
    done = run(INSTALL, *packages, cwd=ROOT, check=False)
    if done.returncode == CANNOT:
        pytest.skip(done.stderr.strip())
    assert done.returncode == 0, done.stderr


def test_the_servers_of_the_page(queue_service: Path) -> None:
    install("redis-check-rdb:redis-tools", "nginx:nginx-light")
    run_deployed("test_servers.py", queue_service, PAGE=str(ROOT / "docs" / "deploy.md"))


def test_systemd_accepts_the_units(service: Path, tmp_path: Path) -> None:
    install("systemd-analyze:systemd")
    units = sorted((service / DEPLOY / "systemd").iterdir())
    has_worker = (service / "core" / "tasks" / "engines" / "redis").exists()
    assert len(units) == (2 if has_worker else 1)
    for unit in units:
        slug, _, process = unit.stem.rpartition("-")
        text = unit.read_text()
        assert f"-m core {process}\n" in text
        # systemd looks whether the program exists.
        (tmp_path / unit.name).write_text(text.replace(f"/srv/{slug}/", f"{service}/"))
        assert verify(tmp_path / unit.name) == ""
        (tmp_path / unit.name).write_text(text.replace("KillMode=mixed", "KillMode=some"))
        assert "kill mode" in verify(tmp_path / unit.name)


def verify(unit: Path) -> str:
    """Return what systemd finds. Its status is 0 also after errors, so any output is one."""
    command = ["systemd-analyze", "verify", "--man=no", str(unit)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    return done.stdout + done.stderr


def test_each_file_says_how_it_was_checked(service: Path) -> None:
    folders = [service / DEPLOY / name for name in ("kubernetes", "systemd")]
    files = [path for folder in folders for path in folder.iterdir()]
    assert len(files) >= 4
    for path in files:
        assert CHECKED in path.read_text().splitlines()[0], path
