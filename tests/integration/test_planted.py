"""Whatever keeps `run` from publishing, `doctor` names, and `run` says within seconds; on real parts."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, MutableMapping
from contextlib import AsyncExitStack, asynccontextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import pytest
import structlog

from streamer.app import Worker
from streamer.cli.doctor import findings_of
from streamer.cli.loop import run as on_our_loop
from streamer.config import Settings
from streamer.flow.stop import StopLadder
from streamer.model import Finding, Verdict
from streamer.sink import TopicsUnfit
from streamer.source.api import ApiConfigError
from streamer.telemetry.http import ListenError
from tests.integration.oracle import PRIORITIES, oracle
from tests.testbed.apiserver import KubeApiServer
from tests.testbed.client import KubeApi
from tests.testbed.cluster import FalcoCluster
from tests.testbed.identity_provider import IdentityProvider
from tests.testbed.kafka import Kafka
from tests.testbed.kubelet import Kubelet
from tests.testbed.planted import Fault, Plant, Servers, Setup, Table, print_alerts
from tests.testbed.planted.brokers import BROKERS
from tests.testbed.planted.falco import FALCO
from tests.testbed.planted.kafka import KAFKA
from tests.testbed.planted.kubernetes import KUBERNETES
from tests.testbed.planted.login import LOGIN
from tests.testbed.planted.sound import SOUND
from tests.testbed.secure_kafka import SecureKafka

pytestmark = [
    pytest.mark.real,
    # Workers are ended in the middle of handshakes that cannot succeed.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

AT_ONCE = 12
"""Set-ups that are tried at the same time."""
RUN_SECONDS = 10.0
"""Within which `run` says what is wrong."""
DOCTOR_SECONDS = 60.0
STOP_SECONDS = 2.0
AT_WORK = "event=worker_started"
PUBLISH_SECONDS = 40.0

HAS_FIX = re.compile(r"fix=\S|; |: grant ").search
"""What to do about it, in the same line."""

_said: ContextVar[list[str]] = ContextVar("_said")


def keep(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> Any:
    """A processor of structlog: each worker's events for itself, as lines."""
    if (said := _said.get(None)) is not None:
        said.append(" ".join(f"{key}={value}" for key, value in event.items()))
    raise structlog.DropEvent


@asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[list[str]]:
    """A worker, as long as the block; gives the lines that it says."""
    said: list[str] = []

    async def run() -> None:
        _said.set(said)
        try:
            await Worker(settings, stop).run()
        except (TopicsUnfit, ApiConfigError, ListenError) as error:
            said.append(f"error: {error}")

    stop = StopLadder()
    worker = asyncio.create_task(run())
    try:
        yield said
    finally:
        stop.request()
        await asyncio.wait([worker], timeout=STOP_SECONDS)
        worker.cancel()
        await asyncio.gather(worker, return_exceptions=True)


async def says(said: list[str], words: str) -> bool:
    """Whether the worker says it in time, with what to do about it."""
    if not words:
        return True
    try:
        async with asyncio.timeout(RUN_SECONDS):
            while not any(words in line and HAS_FIX(line) for line in said):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
    except TimeoutError:
        return False
    return True


async def examined(settings: Settings) -> list[Finding]:
    async with asyncio.timeout(DOCTOR_SECONDS):
        return [one async for one in findings_of(settings) if one.verdict is not Verdict.FINE]


async def published(settings: Settings, said: list[str], topics: list[str]) -> bool:
    """Whether an alert is there in time."""
    security = settings.kafka.security.protocol
    assert security == "plaintext"
    while not any(AT_WORK in line for line in said):  # noqa: ASYNC110
        await asyncio.sleep(0.05)
    async with oracle(settings.kafka.bootstrap_servers[-1], topics) as seen:
        await seen.until(lambda judge: judge.alerts > 0, PUBLISH_SECONDS)
        return seen.alerts > 0


class Trial:
    """Tries set-ups on the same servers, some at a time."""

    def __init__(self, servers: Servers, folder: Path) -> None:
        self._servers = servers
        self._folder = folder
        self._some = asyncio.Semaphore(AT_ONCE)
        self.problems: dict[str, str] = {}

    def setup(self, name: str, stack: AsyncExitStack) -> Setup:
        folder = self._folder / name.replace(" ", "-").replace("/", "-")
        return Setup(self._servers, stack, folder, "planted")

    async def fault(self, fault: Fault) -> None:
        async with self._some, AsyncExitStack() as stack:
            setup = self.setup(fault.name, stack)
            await fault.plant(setup)
            settings = setup.write()
            async with running(settings) as said:
                found, in_time = await asyncio.gather(examined(settings), says(said, fault.run))
            if not any(fault.cause in f"{one.what}; {one.fix}" for one in found):
                self.problems[f"{fault.name}, doctor"] = f"no {fault.cause!r} in {found}"
            if not in_time:
                self.problems[f"{fault.name}, run"] = f"no {fault.run!r} in {said}"

    async def sound(self, plant: Plant) -> None:
        async with self._some, AsyncExitStack() as stack:
            setup = self.setup(plant.__name__, stack)
            setup.own_topics()
            await plant(setup)
            settings = setup.write()
            topics = [f"{setup.name}.alerts.{priority}" for priority in PRIORITIES]
            async with running(settings) as said:
                arrived = await published(settings, said, topics)
                found = await examined(settings)
            if found:
                self.problems[f"{plant.__name__}, doctor"] = str(found)
            if not arrived:
                self.problems[f"{plant.__name__}, run"] = str(said)


@asynccontextmanager
async def trial(servers: dict[str, Any], folder: Path) -> AsyncIterator[Trial]:
    """Servers with one pod of Falco's that prints alerts."""
    structlog.configure(processors=[structlog.processors.add_log_level, keep])
    async with (
        KubeApi(servers["api_server"].kubeconfig) as api,
        FalcoCluster(api, servers["kubelet"]) as falco,
    ):
        print_alerts(await falco.add_pod("falco-a"))
        yield Trial(Servers(api=api, falco=falco, **servers), folder)


@pytest.fixture
def servers(
    api_server: KubeApiServer,
    kubelet: Kubelet,
    kafka: Kafka,
    secure_kafka: SecureKafka,
    identity_provider: IdentityProvider,
) -> dict[str, Any]:
    return {
        "api_server": api_server,
        "kubelet": kubelet,
        "kafka": kafka,
        "secure": secure_kafka,
        "identity": identity_provider,
    }


@pytest.mark.parametrize(
    "table",
    [KUBERNETES, FALCO, KAFKA, BROKERS, LOGIN],
    ids=["kubernetes", "falco", "kafka", "brokers", "login"],
)
def test_what_keeps_run_from_publishing_is_named(
    table: Table, servers: dict[str, Any], tmp_path: Path
) -> None:
    async def work() -> dict[str, str]:
        async with trial(servers, tmp_path) as tried, asyncio.TaskGroup() as tasks:
            for fault in table:
                tasks.create_task(tried.fault(fault))
        return tried.problems

    problems = on_our_loop(work())
    assert not problems, "\n\n".join(f"{name}: {problem}" for name, problem in problems.items())


def test_of_a_setup_that_looks_odd_and_publishes_doctor_says_that_nothing_is_wrong(
    servers: dict[str, Any], tmp_path: Path
) -> None:
    async def work() -> dict[str, str]:
        async with trial(servers, tmp_path) as tried, asyncio.TaskGroup() as tasks:
            for plant in SOUND:
                tasks.create_task(tried.sound(plant))
        return tried.problems

    problems = on_our_loop(work())
    assert not problems, "\n\n".join(f"{name}: {problem}" for name, problem in problems.items())
