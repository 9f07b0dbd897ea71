"""The engine `redis` on servers of each kind: with TLS and rights, with Sentinel, on a cluster."""

import asyncio
import re
import subprocess
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from pydantic_core import MultiHostUrl
from redis.asyncio import Redis
from redis.crc import key_slot

from core.config import ROOT, Settings
from core.dev.programs import find_valkey
from core.dev.servers import HOST, free_port
from core.errors import UserError
from core.tasks import JobStatus, QueueUnavailable, Worker
from core.testing import eventually
from core.tests.queue_servers import Proxy, queue_server, sentinel, write_certificate
from core.tests.running import WAIT, running

PASSWORD = "pa55w0rd"
NODES = 3
MOVES = 3


@pytest.fixture(autouse=True)
def server_program() -> None:
    try:
        find_valkey()
    except UserError as error:
        pytest.skip(f"this test starts its servers: {error}")


COMMANDS_OF_PYTHON = {
    "ping",
    "info",
    "config",
    "evalsha",
    "script",
    "mget",
    "hdel",
    "hlen",
    "hscan",
    "xread",
    "xclaim",
    "select",
    "cluster",
    "sentinel",
}


def test_the_documented_rights_are_the_commands_of_the_scripts():
    text = (ROOT / "core/docs/queue-server.md").read_text(encoding="utf-8")
    rights = set(re.findall(r"\+(\w+)", text))
    scripts = (ROOT / "core/tasks/engines/redis/lua").glob("*.lua")
    used: set[str] = set()
    for script in scripts:
        used |= set(re.findall(r"redis\.p?call\(\s*'(\w+)'", script.read_text(encoding="utf-8")))
    assert len(used) > 10
    assert rights == used | COMMANDS_OF_PYTHON


@pytest.fixture
def redis_settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"task_engine": "redis", "task_unknown_period": 0.0})


class Load:
    """Enqueues jobs all the time, and repeats what is refused, with the same id.

    Attributes:
        acknowledged: The numbers of the jobs that the server has accepted.
        done: The numbers of the jobs that ran.
        refused: How many calls were refused.
    """

    def __init__(self, worker: Worker) -> None:
        self.acknowledged: list[int] = []
        self.done: set[int] = set()
        self.refused = 0

        @worker.task
        async def note(number: int) -> None:
            self.done.add(number)

        self.note = note

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Load"]:
        """Enqueue during a block. After it, every call has been acknowledged."""
        self._ends = False
        enqueuing = [asyncio.create_task(self._enqueue(first)) for first in range(4)]
        try:
            yield self
        finally:
            self._ends = True
            async with asyncio.timeout(WAIT):
                await asyncio.gather(*enqueuing)

    async def _enqueue(self, number: int) -> None:
        while not self._ends:
            try:
                await self.note.using(job_id=f"job-{number}").enqueue(number)
            except QueueUnavailable:
                self.refused += 1
                await asyncio.sleep(0.05)
            else:
                self.acknowledged.append(number)
                number += 4

    async def more(self, count: int = 50) -> None:
        """Wait until more jobs ran that the server accepted after this call."""
        first = len(self.acknowledged)
        await eventually(lambda: len(self.acknowledged) >= first + count, WAIT)
        await eventually(lambda: self.done.issuperset(self.acknowledged[first:][:count]), WAIT)


async def is_empty(worker: Worker) -> bool:
    stats = await worker.queue.engine.stats()
    return not (stats.pending or stats.running or stats.scheduled)


def rights() -> list[str]:
    """Return the rights of a user, as the service's document gives them."""
    text = (ROOT / "core/docs/queue-server.md").read_text(encoding="utf-8")
    found = re.search(r"^ACL SETUSER (.*)$", text, re.MULTILINE)
    assert found
    return found[1].split()


async def test_tls_and_a_user_with_few_rights(worker, redis_settings, tmp_path, caplog):
    @worker.task(unique=True)
    async def double(number: int) -> int:
        return 2 * number

    @worker.task(max_retries=0)
    async def broken() -> None:
        raise ValueError

    certificate = write_certificate(tmp_path)
    name, *rules = (
        word.replace("PASSWORD", PASSWORD).replace("default", redis_settings.queue_name)
        for word in rights()
    )
    with queue_server(tmp_path) as (port, _):
        async with Redis(port=port) as admin, Proxy(port, certificate).running() as proxy:
            await admin.execute_command("ACL", "SETUSER", name, *rules)
            await admin.execute_command("ACL", "SETUSER", "default", "resetpass", ">unused")
            place = f"{HOST}:{proxy.port}/0?ssl_ca_certs={certificate}"
            redis_settings.redis_url = MultiHostUrl(f"rediss://{name}:{PASSWORD}@{place}")
            async with running(worker, redis_settings):
                assert await (await double.enqueue(2)).result(WAIT) == 4
                assert await (await double.using(delay=0.1).enqueue(3)).result(WAIT) == 6
                later = await double.using(delay=3600).enqueue(3)
                await later.abort()
                job = await broken.enqueue()
                await job.wait(WAIT)
                await worker.dead_letters.move()
                engine = worker.queue.engine
                await engine.check()
                await engine.stats()
                await engine._consumer._beat()
                await asyncio.to_thread(engine.records.blame, job.id)
            refused = await admin.execute_command("ACL", "LOG")
            assert refused == []

            redis_settings.redis_url = MultiHostUrl(f"rediss://{name}:{PASSWORD}x@{place}")
            async with worker.open(redis_settings):
                with pytest.raises(QueueUnavailable, match="username-password") as caught:
                    await double.enqueue(1)
    assert PASSWORD not in caplog.text
    assert PASSWORD not in str(caught.value)


@dataclass(frozen=True)
class Pair:
    """A primary with a replica behind a proxy, and three sentinels that know it as `main`."""

    port: int
    process: "subprocess.Popen[bytes]"
    proxy: Proxy
    sentinels: list[int]

    async def name_primary(self) -> int:
        """Return the port of the primary that the sentinels name."""
        async with Redis(port=self.sentinels[0]) as redis:
            address: Any = await redis.sentinel_get_master_addr_by_name("main")
        return int(address[1])


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[Pair]:
    # After the failover the new primary is alone, so only the first one has this limit.
    safe = ("--min-replicas-to-write", "1", "--min-replicas-max-lag", "1")
    async with AsyncExitStack() as stack:
        run = stack.enter_context
        port, process = run(queue_server(tmp_path, *safe, "--repl-diskless-sync-delay", "0"))
        proxy = await stack.enter_async_context(Proxy(port).running())
        run(queue_server(tmp_path, "--replicaof", HOST, str(proxy.port)))

        async def has_replica() -> bool:
            async with Redis(port=port) as redis:
                return (await redis.info("replication"))["min_slaves_good_slaves"] == 1

        await eventually(has_replica, WAIT)
        sentinels = [run(sentinel(tmp_path, port)) for _ in range(3)]

        async def know_all() -> bool:
            for each in sentinels:
                async with Redis(port=each) as redis:
                    states: Any = await redis.sentinel_masters()
                state = states["main"]
                if (state["num-other-sentinels"], state["num-slaves"]) != (2, 1):
                    return False
            return True

        await eventually(know_all, WAIT)
        yield Pair(port, process, proxy, sentinels)


async def test_jobs_survive_a_failover(worker, redis_settings, pair):
    async def has_moved() -> bool:
        return await pair.name_primary() != pair.port

    load = Load(worker)
    hosts = ",".join(f"{HOST}:{port}" for port in pair.sentinels)
    redis_settings.redis_url = MultiHostUrl(f"redis+sentinel://{hosts}/main")
    async with running(worker, redis_settings):
        async with load.running(), Redis(port=pair.port) as redis:
            await load.more()
            before = len(load.acknowledged)
            # The replica has a write, so it has all earlier ones.
            await redis.set("mark", 1)
            assert await redis.wait(1, 1000) == 1
            # Replication is asynchronous: later writes do not reach the replica.
            pair.proxy.swallows = True
            await eventually(lambda: len(load.acknowledged) > before + 50 or load.refused, WAIT)
            pair.process.kill()
            await eventually(has_moved, WAIT)
            unsure = load.acknowledged[before:]
            await load.more()
        assert load.refused
        kept = set(load.acknowledged) - set(unsure)
        await eventually(lambda: load.done >= kept, WAIT)
        await eventually(partial(is_empty, worker), WAIT)


class Cluster:
    """A cluster of some nodes that share the slots."""

    def __init__(self, ports: list[int], bus: list[int]) -> None:
        self.ports = ports
        self.bus = bus
        self.nodes = [Redis(port=port, decode_responses=True) for port in ports]
        self.ids: list[str] = []

    async def form(self) -> None:
        """Share the slots, and wait until each node knows it."""
        size = 16384 // NODES + 1
        for number, node in enumerate(self.nodes):
            self.ids.append(await node.execute_command("CLUSTER", "MYID"))
            first, last = number * size, min((number + 1) * size, 16384) - 1
            await node.execute_command("CLUSTER", "ADDSLOTSRANGE", first, last)
            await node.execute_command("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        for port, bus in zip(self.ports[1:], self.bus[1:], strict=True):
            await self.nodes[0].execute_command("CLUSTER", "MEET", HOST, port, bus)
        for node in self.nodes:

            async def is_ready(node: Any = node) -> bool:
                info = await node.cluster("info")
                return info["cluster_state"] == "ok" and int(info["cluster_known_nodes"]) == NODES

            await eventually(is_ready, WAIT)

    async def find(self, slot: int) -> int:
        """Return the number of the node that has a slot."""
        for first, last, (_, port, *_), *_ in await self.nodes[0].cluster("slots"):
            if first <= slot <= last:
                return self.ports.index(port)
        raise LookupError(slot)

    async def move(self, slot: int, source: int, target: int) -> None:
        """Move a slot with all of its keys, a few keys at a time."""
        old, new = self.nodes[source], self.nodes[target]
        setslot = ("CLUSTER", "SETSLOT", slot)
        await new.execute_command(*setslot, "IMPORTING", self.ids[source])
        await old.execute_command(*setslot, "MIGRATING", self.ids[target])
        while keys := await old.execute_command("CLUSTER", "GETKEYSINSLOT", slot, 20):
            place = (HOST, self.ports[target], "", 0, 5000)
            await old.execute_command("MIGRATE", *place, "KEYS", *keys)
            await asyncio.sleep(0)
        for node in (new, old, *self.nodes):
            await node.execute_command(*setslot, "NODE", self.ids[target])


@pytest.fixture
async def cluster(tmp_path) -> AsyncIterator[Cluster]:
    with ExitStack() as stack:
        bus = [free_port() for _ in range(NODES)]
        ports = []
        for number in range(NODES):
            options = ("--cluster-enabled", "yes", "--cluster-port", str(bus[number]))
            ports.append(stack.enter_context(queue_server(tmp_path, *options))[0])
        cluster = Cluster(ports, bus)
        await cluster.form()
        yield cluster
        for node in cluster.nodes:
            await node.aclose()


async def test_no_job_is_lost_when_its_slot_moves(worker, redis_settings, cluster):
    load = Load(worker)
    # The client finds the node of its slot, wherever it begins.
    hosts = ",".join(f"{HOST}:{port}" for port in cluster.ports[:2])
    redis_settings.redis_url = MultiHostUrl(f"redis+cluster://{hosts}")
    slot = key_slot(f"{{{redis_settings.queue_name}}}".encode())
    source = await cluster.find(slot)
    async with running(worker, redis_settings):
        async with load.running():
            await load.more()
            for _ in range(MOVES):
                target = (source + 1) % NODES
                await cluster.move(slot, source, target)
                await load.more()
                source = target
        await eventually(lambda: load.done >= set(load.acknowledged), WAIT)
        await eventually(partial(is_empty, worker), WAIT)
        for number in load.acknowledged:
            job = await load.note.using(job_id=f"job-{number}").enqueue(number)
            assert await job.status() is JobStatus.COMPLETED
        assert load.refused
