"""`falco-streamer state` on a real Kafka."""

from __future__ import annotations

import asyncio
import sys
import uuid
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import orjson
import pytest
import yaml
from click.testing import CliRunner, Result
from structlog.testing import capture_logs

from streamer.cli import main
from streamer.config import load
from streamer.flow.publishing import Fenced
from streamer.sink import Connection, GroupMembership
from streamer.sink.group_lock import WorkersRunning, lock_workers_out
from streamer.sink.permissions import Permission, worker_permissions
from streamer.transform.export import read_export
from tests.chaos.bed import Worker
from tests.integration.test_kafka_access import LOGIN, binding, make_topics
from tests.testbed.apiserver import KubeApiServer
from tests.testbed.kafka import Kafka
from tests.testbed.secure_kafka import SecureKafka
from tests.testbed.topics import add_partitions, create_topic
from tests.unit.sink.samples import connection, publication, shard
from tests.unit.transform.samples import FALCO, OTHER
from tests.unit.transform.stored import stored
from tests.unit.transform.test_state import of_format

pytestmark = pytest.mark.real

SHARDS = 2
COMPACT = {"cleanup.policy": "compact"}


class Stored:
    """A state topic of one's own with the state of two pods in it."""

    def __init__(self, kafka: Kafka, folder: Path) -> None:
        self.connection: Connection = connection(kafka.bootstrap)
        self.name = f"state-{uuid.uuid4().hex[:8]}"
        self.topic = f"falco-streamer.{self.name}.state"
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
        return await run(self.config, *arguments)


async def run(config: Path, *arguments: str) -> Result:
    command = ["state", arguments[0], "--config", str(config), *arguments[1:]]
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
    assert "no workers in the group" in after.stdout


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


async def test_nothing_is_reset_while_a_worker_is_in_the_group(state: Stored) -> None:
    async with state.member():
        done = await state.run("reset", "--pod", f"falco/{FALCO.pod}", "--yes")
        assert done.exit_code == 1
        assert "workers are running (1): falco-streamer-0 at 127.0.0.1" in done.stderr
        with pytest.raises(WorkersRunning, match="falco-streamer-0"):  # one that came after we had asked
            async with lock_workers_out(state.connection, state.name):
                pass
    assert read_export((await state.run("export")).stdout.splitlines()).shards == stored(SHARDS, state.name)


async def test_workers_are_kept_out_and_let_in_again(state: Stored) -> None:
    membership = GroupMembership(state.connection, cluster=state.name, state_topic=state.topic)
    with capture_logs() as said:
        async with lock_workers_out(state.connection, state.name) as lock:
            running = asyncio.create_task(membership.run())
            async with asyncio.timeout(30):
                while not any(each["event"] == "group_failed" for each in said):  # noqa: ASYNC110  # nothing tells
                    await asyncio.sleep(0.05)
            await lock.check()
            assert membership.assigned is None
    [told] = {each["cause"] for each in said if each["event"] == "group_failed"}
    assert told == f"consumers of another kind are in the group falco-streamer.{state.name}"
    async with asyncio.timeout(30):
        async for assigned in membership.assignments():
            assert assigned == frozenset(range(SHARDS))
            break
    running.cancel()
    await asyncio.wait([running])


async def test_one_command_keeps_another_out(state: Stored) -> None:
    async with lock_workers_out(state.connection, state.name) as lock:
        with pytest.raises(WorkersRunning, match=r"workers are running \(1\)"):
            async with lock_workers_out(state.connection, state.name):
                pass
        await lock.check()


async def test_a_pod_is_reset_after_its_consequences_were_confirmed(state: Stored) -> None:
    command = ["reset", "--pod", f"falco/{FALCO.pod}"]
    asked = await state.run(*command)
    assert asked.exit_code == 1, "nobody said yes"
    assert f"falco/{FALCO.pod} falco (uid {FALCO.uid}): 33 lines read" in asked.stderr
    assert "with the same ce_id" in asked.stderr
    assert "Go on?" in asked.stderr
    assert read_export((await state.run("export")).stdout.splitlines()).shards == stored(SHARDS, state.name)

    done = await state.run(*command, "--yes", "--set", "topics.create=true")
    assert done.exit_code == 0, done.stderr
    assert "keys forgotten, 3 records published" in done.stdout
    after = read_export((await state.run("export")).stdout.splitlines())
    keys = [key for held in after.shards.values() for key in held]
    assert not [key for key in keys if FALCO.pod in key]
    assert f"position/{OTHER.id}" in keys
    again = await state.run(*command, "--yes")
    assert again.exit_code == 1
    assert f"no position of falco/{FALCO.pod} is stored" in again.stderr


async def test_a_shard_that_cannot_be_read_is_reset_as_a_whole(state: Stored) -> None:
    await state.write({0: {f"position/{FALCO.id}": b"{"}})
    create = ["--yes", "--set", "topics.create=true"]
    refused = await state.run("reset", "--pod", f"falco/{FALCO.pod}", *create)
    assert refused.exit_code == 1
    assert "forget it as a whole: --shard 0" in refused.stderr
    done = await state.run("reset", "--shard", "0", *create)
    assert done.exit_code == 0, done.stderr
    assert "Shard 0 cannot be read: state key" in done.stderr
    after = read_export((await state.run("export")).stdout.splitlines())
    assert after.shards == stored(SHARDS, state.name) | {0: {}}


async def test_a_worker_frozen_before_the_reset_can_commit_no_more(state: Stored) -> None:
    sleeper = shard(state.connection, state.topic, index=0, cluster=state.name)
    await sleeper.open()
    done = await state.run("reset", "--shard", "0", "--yes", "--set", "topics.create=true")
    assert done.exit_code == 0, done.stderr
    with pytest.raises(Fenced):
        await sleeper.publish(publication(changes={"position/x": b"{}"}))


@pytest.mark.parametrize(
    "arguments",
    [[], ["--pod", "falco/a", "--shard", "0"], ["--pod", "falco"], ["--shard", "0", "--container", "falco"]],
)
async def test_what_is_to_be_reset_must_be_clear(state: Stored, arguments: list[str]) -> None:
    done = await state.run("reset", *arguments)
    assert done.exit_code == 2


RESHARD = ("reshard", "--to", "3", "--yes", "--set", "topics.create=true")


async def test_every_key_moves_and_the_old_topic_says_where_to(state: Stored) -> None:
    done = await state.run(*RESHARD)
    assert done.exit_code == 0, done.stderr
    topic = f"{state.topic}-3"
    assert done.stdout == f"moved; set kafka.shards: 3 and topics.state: {topic}, then start the workers\n"
    old = await state.run("show")
    assert old.exit_code == 1
    assert old.stderr.count(f"this state was moved to the topic {topic} with 3 shards") == SHARDS
    new = read_export((await state.run("export", "--set", f"topics.state={topic}")).stdout.splitlines())
    before = {key for held in stored(SHARDS, state.name).values() for key in held if "/" in key}
    assert {key for held in new.shards.values() for key in held if "/" in key} >= before
    for refused in (await state.run(*RESHARD), await state.run("reset", "--shard", "0", "--yes")):
        assert refused.exit_code == 1
        assert "was moved to the topic" in refused.stderr


async def test_the_state_may_come_back_to_where_it_was(state: Stored) -> None:
    topic = f"{state.topic}-3"
    assert (await state.run(*RESHARD)).exit_code == 0
    at = ("--yes", "--set", f"topics.state={topic}", "--set", "kafka.shards=3")
    back = await state.run("reshard", "--to", "2", "--topic", state.topic, *at)
    assert back.exit_code == 0, back.stderr
    export = read_export((await state.run("export")).stdout.splitlines())
    for index, held in stored(SHARDS, state.name).items():
        assert export.shards[index].keys() == held.keys()
        assert {k: v for k, v in export.shards[index].items() if k != "ledger"} == {
            k: v for k, v in held.items() if k != "ledger"
        }


async def test_no_owner_of_before_the_reshard_can_commit_after_it(state: Stored) -> None:
    frozen = [shard(state.connection, state.topic, index=n, cluster=state.name) for n in range(SHARDS)]
    for producer in frozen:
        await producer.open()
    assert (await state.run(*RESHARD)).exit_code == 0
    for producer in frozen:
        with pytest.raises(Fenced):
            await producer.publish(publication(changes={"position/x": b"{}"}))


async def test_a_reshard_is_refused_while_a_worker_is_in_the_group(state: Stored) -> None:
    async with state.member():
        done = await state.run(*RESHARD)
    assert done.exit_code == 1
    assert "workers are running (1): falco-streamer-0" in done.stderr
    assert read_export((await state.run("export")).stdout.splitlines()).shards == stored(SHARDS, state.name)


async def test_a_reshard_says_what_it_lacks_and_changes_nothing(state: Stored) -> None:
    missing = await state.run("reshard", "--to", "3", "--yes")
    assert missing.exit_code == 78
    assert f"--topic {state.topic}-3 --partitions 3" in missing.stderr
    same = await state.run("reshard", "--to", "3", "--topic", state.topic)
    assert same.exit_code == 2
    weak = await state.run(*RESHARD, "--set", "kafka.delivery=at_least_once")
    assert weak.exit_code == 78
    assert "kafka.delivery is at_least_once" in weak.stderr
    await state.write({1: {f"position/{FALCO.id}": b"{"}})
    damaged = await state.run(*RESHARD)
    assert damaged.exit_code == 1
    assert f"shard 1: state key 'position/{FALCO.id}' is damaged" in damaged.stderr
    shards = read_export((await state.run("export")).stdout.splitlines()).shards
    assert not any("moved" in held for held in shards.values())


async def test_without_transactions_a_reset_is_possible_too(state: Stored) -> None:
    weak = ("--set", "kafka.delivery=at_least_once", "--set", "topics.create=true")
    done = await state.run("reset", "--pod", f"falco/{FALCO.pod}", "--yes", *weak)
    assert done.exit_code == 0, done.stderr
    after = read_export((await state.run("export")).stdout.splitlines())
    assert not [key for held in after.shards.values() for key in held if FALCO.pod in key]


async def test_the_workers_own_permissions_are_enough_and_a_missing_one_is_named(
    secure_kafka: SecureKafka, tmp_path: Path
) -> None:
    name, config = f"state-{uuid.uuid4().hex[:8]}", tmp_path / "streamer.yaml"
    security = {"protocol": "sasl_ssl", "ca_file": str(secure_kafka.trusted), "sasl": LOGIN}
    kafka = {"bootstrap_servers": [secure_kafka.at("SASL")], "shards": SHARDS, "security": security}
    config.write_text(yaml.safe_dump({"cluster": name, "topics": {"prefix": name}, "kafka": kafka}))
    before = load(config)
    after = load(config, ["kafka.shards=3", f"topics.state={before.topic_names.state}-3"])
    await make_topics(secure_kafka, before)
    await create_topic(secure_kafka.bootstrap, after.topic_names.state, partitions=3, config=COMPACT)
    allowed = {*worker_permissions(before), *worker_permissions(after)}
    secure_kafka.allow(map(binding, allowed))
    for index, changes in stored(SHARDS, name).items():
        where = Connection(before.kafka)
        producer = shard(where, before.topic_names.state, index=index, cluster=name)
        await producer.open()
        await producer.publish(publication(changes=changes))
        await producer.close()

    group = binding(Permission("group", f"falco-streamer.{name}", "READ"))
    secure_kafka.forbid([group])
    for command in (["show"], ["reset", "--shard", "1", "--yes"], ["reshard", "--to", "3", "--yes"]):
        refused = await run(config, *command)
        assert refused.exit_code == 69
        assert f"we may not use the consumer group falco-streamer.{name}; grant READ on it" in refused.stderr
    secure_kafka.allow([group])
    for command in (["show"], ["reset", "--shard", "1", "--yes"], ["reshard", "--to", "3", "--yes"]):
        done = await run(config, *command)
        assert done.exit_code == 0, done.stderr


async def test_a_cluster_that_never_had_a_group_is_asked_all_the_same(
    private_kafka: Kafka, tmp_path: Path
) -> None:
    """Kafka makes the topic for groups when it is asked for the first."""
    fresh = Stored(private_kafka, tmp_path)
    await create_topic(private_kafka.bootstrap, fresh.topic, partitions=SHARDS, config=COMPACT)
    done = await fresh.run("show")
    assert done.exit_code == 0, done.stderr
    assert "no workers in the group" in done.stdout


async def test_partitions_that_were_added_by_hand_stop_a_worker_at_its_start(
    state: Stored, api_server: KubeApiServer
) -> None:
    """Nobody has moved the state: most pods would be found without a position, and read anew."""
    await add_partitions(state.connection.kafka.bootstrap_servers[0], state.topic, 2 * SHARDS)
    given = [f"kafka.shards={2 * SHARDS}", f"kubernetes.kubeconfig={api_server.kubeconfig}"]
    given += ["topics.create=true", "http.port=0"]
    flags = [word for each in given for word in ("--set", each)]
    worker = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "streamer", "run", "--config", str(state.config), *flags, stderr=PIPE
    )
    async with asyncio.timeout(60):
        _, said = await worker.communicate()
    assert worker.returncode == 78
    assert f"this state is divided into {SHARDS} shards, but kafka.shards is {2 * SHARDS}" in said.decode()
    examined = await asyncio.to_thread(
        CliRunner().invoke, main, ["doctor", "-o", "json", "--config", str(state.config), *flags]
    )
    [fault] = [
        one for one in orjson.loads(examined.stdout)["findings"] if one["check"] == "kafka.topics.state"
    ]
    assert fault["verdict"] == "fault"
    assert fault["found"] in said.decode()
    fix = ["reshard", "--to", str(2 * SHARDS), "--yes", "--set", "topics.create=true"]
    assert f"`falco-streamer state {' '.join(fix[:3])}`" in said.decode()
    moved = await state.run(*fix)
    assert moved.exit_code == 0, moved.stderr


async def test_a_state_of_a_newer_release_stops_its_shard_and_no_other(
    state: Stored, api_server: KubeApiServer, tmp_path: Path
) -> None:
    """As after an upgrade that was taken back by more than one release."""
    key = f"position/{FALCO.id}"
    newer = of_format(stored(SHARDS, state.name)[0][key], 2)
    await state.write({0: {key: newer}})
    kubernetes = {"kubeconfig": str(api_server.kubeconfig), "namespaces": ["nobody-is-here"]}
    topics, http = {"create": True, "prefix": state.name}, {"host": "127.0.0.1", "port": 0}
    settings = {**state.settings, "kubernetes": kubernetes, "topics": topics, "http": http}
    logged = {"log": {"format": "json", "level": "debug"}}
    worker = Worker(tmp_path / "worker", settings | logged, ("-m", "streamer"))
    await worker.start()
    try:
        told = await worker.until_heard("state_unreadable")
        assert told["shard"] == 0
        assert repr(key) in told["cause"]
        assert "has format 2, this release reads format 1: run the release that wrote it" in told["cause"]
        opened = await worker.until_heard("shard_opened")
        assert opened["shard"] == 1
        assert await worker.stop() == 0
    finally:
        await worker.kill()
    assert read_export((await state.run("export")).stdout.splitlines()).shards[0][key] == newer
