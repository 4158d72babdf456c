"""`falco-streamer state` on a real Kafka."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import orjson
import pytest
import yaml
from click.testing import CliRunner, Result

from streamer.cli import main
from streamer.sink import Connection, GroupMembership
from streamer.transform.export import read_export
from tests.testbed.kafka import Kafka
from tests.testbed.topics import create_topic
from tests.unit.sink.samples import connection, publication, shard
from tests.unit.transform.samples import FALCO, OTHER
from tests.unit.transform.stored import stored

pytestmark = pytest.mark.real

SHARDS = 2
COMPACT = {"cleanup.policy": "compact"}


class Stored:
    """A state topic of one's own with the state of two pods in it."""

    def __init__(self, kafka: Kafka, folder: Path) -> None:
        self.connection: Connection = connection(kafka.bootstrap)
        self.name = f"state-{uuid.uuid4().hex[:8]}"
        self.topic = f"_falco-streamer.{self.name}.state"
        self.config = folder / "streamer.yaml"
        self.settings = {
            "cluster": self.name,
            "kafka": {"bootstrap_servers": [kafka.bootstrap], "shards": SHARDS},
        }
        self.config.write_text(yaml.safe_dump(self.settings))

    async def write(self, state: Mapping[int, Mapping[str, bytes | None]]) -> None:
        for index, changes in state.items():
            producer = shard(self.connection, self.topic, index=index, cluster=self.name)
            await producer.open()
            await producer.publish(publication(changes=changes))
            await producer.close()

    @asynccontextmanager
    async def member(self, name: str = "falco-streamer-0") -> AsyncIterator[None]:
        """A worker in the group, with all shards assigned to it."""
        membership = GroupMembership(
            self.connection, cluster=self.name, state_topic=self.topic, instance_id=name
        )
        running = asyncio.create_task(membership.run())
        try:
            async with asyncio.timeout(30):
                async for assigned in membership.assignments():
                    if assigned == frozenset(range(SHARDS)):
                        break
            yield
        finally:
            running.cancel()
            await asyncio.wait([running])

    async def run(self, *arguments: str) -> Result:
        command = ["state", arguments[0], "--config", str(self.config), *arguments[1:]]
        return await asyncio.to_thread(CliRunner().invoke, main, command)


@pytest.fixture
async def state(kafka: Kafka, tmp_path: Path) -> Stored:
    made = Stored(kafka, tmp_path)
    await create_topic(kafka.bootstrap, made.topic, partitions=SHARDS, config=COMPACT)
    await made.write(stored(SHARDS, made.name))
    return made


async def test_show_tells_who_owns_what_and_how_far_it_is(state: Stored) -> None:
    async with state.member():
        shown = orjson.loads((await state.run("show", "-o", "json")).stdout)
        text = (await state.run("show")).stdout
    [worker] = shown["workers"]
    assert (worker["name"], worker["shards"]) == ("falco-streamer-0", [0, 1])
    assert all(shard["worker"]["name"] == "falco-streamer-0" for shard in shown["shards"])
    pods = {target["pod"]: target for shard in shown["shards"] for target in shard["targets"]}
    assert pods.keys() == {FALCO.pod, OTHER.pod}
    assert pods[FALCO.pod]["lines"] == 33
    assert f"falco/{FALCO.pod}" in text
    assert "0-1" in text
    after = await state.run("show")
    assert after.exit_code == 0
    assert "no worker is in the group" in after.stdout


async def test_export_has_every_live_key_as_it_is_and_no_other(state: Stored) -> None:
    await state.write({0: {"bucket/gone": b'{"v":1}'}})
    await state.write({0: {"bucket/gone": None}})
    done = await state.run("export")
    assert done.exit_code == 0, done.stderr
    export = read_export(done.stdout.splitlines())
    assert (export.cluster, export.topic) == (state.name, state.topic)
    assert export.shards == stored(SHARDS, state.name)


async def test_a_topic_that_is_not_there_is_named(state: Stored) -> None:
    done = await state.run("show", "--set", "topics.state=nowhere")
    assert done.exit_code == 69
    assert "there is no topic nowhere; check `cluster` and `topics.state`" in done.stderr
