"""The main job in one process: a simulated cluster, the worker, a mock Kafka broker to write to, and the viewer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from streamer.app import Worker
from streamer.config import Settings, load
from streamer.flow.membership import Alone
from streamer.flow.stop import StopLadder
from streamer.model import Ledger
from streamer.simulator import SimulatedApiServer
from streamer.simulator.scenario import Scenario
from streamer.sink import Connection, Message, TopicReader
from streamer.sink.mock_broker import MockBroker
from streamer.view.access import Access
from streamer.view.viewer import Listen, topics_of, viewing

_READ_BACK_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a demo ended: what the worker accounts for, and how many records were read back from the topics."""

    ledger: Ledger
    read_back: int

    @property
    def expected(self) -> int:
        """How many records the ledger says there are."""
        ledger = self.ledger
        return ledger.published + ledger.dead_lettered + ledger.summaries + ledger.health_records

    @property
    def sound(self) -> bool:
        """Whether every line has one outcome and every record was found in its topic."""
        return self.ledger.balanced and self.read_back == self.expected


async def run_demo(
    stop: StopLadder,
    *,
    rate: float,
    seed: int,
    seconds: float | None,
    on_record: Callable[[Message], None],
    on_ledger: Callable[[Ledger], None],
    on_event: Callable[[str], None],
    on_page: Callable[[str], None],
) -> Outcome:
    """Run until the stop ladder, or `seconds`, says so. Raises `MockBrokerMissing` without the demo's wheel."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="falco-streamer-demo-")))
        broker = stack.enter_context(MockBroker())
        scenario = Scenario(
            rate_per_second=rate, seed=seed, broken_every=70, text_every=110, on_event=on_event
        )
        server = await stack.enter_async_context(SimulatedApiServer(scenario.cluster))
        settings = _settings(server.kubeconfig(folder / "kubeconfig"), broker.bootstrap)
        for spec in settings.topic_specs:
            broker.create_topic(spec.name, spec.partitions if spec.partitions > 0 else 1)
        connection = Connection(settings.kafka, check_crcs=False)
        on_page(
            await stack.enter_async_context(
                viewing(
                    connection,
                    topics_of(settings),
                    Listen(Access()),
                    start="beginning",
                    isolation="read_uncommitted",
                )
            )
        )
        topics = [spec.name for spec in settings.topic_specs if spec.kind != "state"]
        reader = await stack.enter_async_context(
            TopicReader(connection, topics, isolation="read_uncommitted")
        )
        return await _play(
            stop,
            Worker(settings, stop, membership=Alone(settings.kafka.shards), check_crcs=False),
            scenario,
            reader,
            seconds,
            on_record,
            on_ledger,
        )


async def _play(
    stop: StopLadder,
    worker: Worker,
    scenario: Scenario,
    reader: TopicReader,
    seconds: float | None,
    on_record: Callable[[Message], None],
    on_ledger: Callable[[Ledger], None],
) -> Outcome:
    read_back = 0
    done = asyncio.Event()

    async def read() -> None:
        nonlocal read_back
        async for messages in reader.batches():
            for message in messages:
                on_record(message)
            read_back += len(messages)
            on_ledger(worker.ledger)
            if done.is_set() and read_back >= Outcome(worker.ledger, read_back).expected:
                return

    async with asyncio.TaskGroup() as tasks:
        reading = tasks.create_task(read(), name="read back")
        living = tasks.create_task(scenario.run(), name="scenario")
        working = tasks.create_task(worker.run(), name="worker")
        timer = tasks.create_task(_after(seconds, stop), name="timer")
        await stop.wait()
        living.cancel()
        timer.cancel()
        await working
        done.set()
        if read_back < Outcome(worker.ledger, read_back).expected:
            await asyncio.wait([reading], timeout=_READ_BACK_SECONDS)
        reading.cancel()
    return Outcome(worker.ledger, read_back)


async def _after(seconds: float | None, stop: StopLadder) -> None:
    if seconds is not None:
        await asyncio.sleep(seconds)
        stop.request()


def _settings(kubeconfig: Path, bootstrap: str) -> Settings:
    """The defaults, but for what a mock broker cannot do: it has no transactions worth the name.

    And windows are short, so that a demo of seconds shows summaries.
    """
    given: dict[str, Any] = {
        "cluster": "demo",
        "kubernetes.kubeconfig": kubeconfig,
        "kafka.bootstrap_servers": bootstrap,
        "kafka.delivery": "at_least_once",
        "kafka.shards": 2,
        "topics.partitions": 3,
        "dedupe.window_seconds": "3, 10, 30",
        "http.host": "127.0.0.1",
        "http.port": 0,
    }
    return load(None, [f"{key}={value}" for key, value in given.items()], {})
