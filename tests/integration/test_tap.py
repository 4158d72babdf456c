"""`falco-streamer tap` on a real Kafka: committed records, chosen, and shown so that none of their text can act."""

from __future__ import annotations

import asyncio
import os
import pty
import signal
import sys
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml
from click.testing import CliRunner, Result

from streamer.cli import main
from streamer.model import Record, RecordKind, SharedHeaders
from streamer.simulator import AlertGenerator
from streamer.sink import ShardProducer
from tests.testbed.kafka import Kafka
from tests.testbed.topics import create_topic
from tests.unit.sink.samples import connection, publication, shard

pytestmark = pytest.mark.real

GENERATOR = AlertGenerator(9, sources=("syscall",))


class Tapped:
    """Topics of one cluster, what was written into them, and tap."""

    def __init__(self, kafka: Kafka, folder: Path) -> None:
        self.name = f"tap-{uuid.uuid4().hex[:8]}"
        self.kafka = kafka
        self.config = folder / "streamer.yaml"
        given = {"cluster": self.name, "topics": {"prefix": self.name}}
        self.config.write_text(yaml.safe_dump({**given, "kafka": {"bootstrap_servers": [kafka.bootstrap]}}))
        self.state = f"falco-streamer.{self.name}.state"

    def topic(self, name: str) -> str:
        return f"{self.name}.{name}"

    def record(self, topic: str, value: bytes, kind: str = "alert", *, age_seconds: float = 0) -> Record:
        found = orjson.loads(value)
        headers = {"kind": kind, "rule": str(found.get("rule", ""))}
        headers["priority"] = str(found.get("priority", "")).lower()
        at_ms = round((time.time() - age_seconds) * 1000)
        return Record(
            self.topic(topic),
            b"falco/falco-a",
            value,
            "",
            SharedHeaders(RecordKind(kind), [(k, v.encode()) for k, v in headers.items()]),
            at_ms,
            uuid.uuid4().hex,
        )

    async def producer(self) -> ShardProducer:
        made = shard(connection(self.kafka.bootstrap), self.state, cluster=self.name)
        await made.open()
        return made

    async def write(self, *records: Record) -> None:
        producer = await self.producer()
        await producer.publish(publication(records))
        await producer.close()

    async def tap(self, *arguments: str) -> Result:
        command = ["tap", "--config", str(self.config), "--since", "1h", "--no-follow", *arguments]
        return await asyncio.to_thread(CliRunner().invoke, main, command)

    async def shown(self, *arguments: str) -> list[Any]:
        done = await self.tap("-o", "json", *arguments)
        assert done.exit_code == 0, done.stderr
        return [orjson.loads(line) for line in done.stdout.splitlines()]


def alert(rule: str, priority: str, **fields: Any) -> bytes:
    text = {
        "time": "2026-11-20T10:00:00.000000000Z",
        "rule": rule,
        "priority": priority,
        "output": f"{rule}!",
    }
    return orjson.dumps({**text, "source": "syscall", "output_fields": fields})


@pytest.fixture
async def tapped(kafka: Kafka, tmp_path: Path) -> Tapped:
    made = Tapped(kafka, tmp_path)
    await create_topic(kafka.bootstrap, made.state, config={"cleanup.policy": "compact"})
    for name in ("alerts.warning", "alerts.error", "summaries", "overflow", "health", "dead-letter"):
        await create_topic(kafka.bootstrap, made.topic(name), partitions=2)
    return made


def rules(shown: Sequence[Any]) -> list[str]:
    return [one["value"]["rule"] for one in shown]


async def test_records_are_chosen_by_kind_and_by_what_is_in_them(tapped: Tapped) -> None:
    gap = {
        "health": "gap",
        "reason": "pod_gone",
        "certain": True,
        "from": "2026-11-20T10:00:00Z",
        "to": None,
        "detail": "it left",
    }
    await tapped.write(
        tapped.record("alerts.warning", alert("Shell", "Warning", **{"k8s.ns.name": "shop"}), age_seconds=4),
        tapped.record("alerts.error", alert("Write", "Error", **{"k8s.ns.name": "bank"}), age_seconds=3),
        tapped.record("alerts.error", alert("Write", "Error"), "summary", age_seconds=2),
        tapped.record("health", alert("Routed", "Debug"), age_seconds=1.5),  # a route may send alerts there
        tapped.record("health", orjson.dumps(gap), "health", age_seconds=1),
        tapped.record("dead-letter", orjson.dumps({"reason": "invalid_json", "line": "{x"}), "dead-letter"),
        tapped.record("alerts.error", alert("Old", "Error"), age_seconds=7200),
    )
    everything = await tapped.shown()
    assert [one["headers"]["kind"] for one in everything] == ["alert", "alert", "summary", "alert", "health"]
    assert rules(await tapped.shown("--no-health", "--no-summaries")) == ["Shell", "Write"]
    assert rules(await tapped.shown("-r", "Routed")) == ["Routed"]
    assert rules(await tapped.shown("-p", "error")) == ["Write", "Write"]
    assert rules(await tapped.shown("-r", "She*")) == ["Shell"]
    assert rules(await tapped.shown("-n", "bank")) == ["Write"]
    assert rules(await tapped.shown("-w", 'k8s.ns.name =~ "s.*"')) == ["Shell"]
    assert len(await tapped.shown("--dead-letters")) == 6
    nothing = await tapped.tap("-r", "Shel")
    assert (nothing.exit_code, nothing.stdout) == (0, "")
    assert nothing.stderr.splitlines()[-1] == "nothing to show: 5 records were read, and none matches"
    table = await tapped.tap()
    assert "\x1b" not in table.stdout
    lines = table.stdout.splitlines()
    assert [line.split()[1] for line in lines] == ["WARNING", "ERROR", "ERROR", "DEBUG", "GAP"]
    assert lines[-1].endswith("pod_gone  falco/falco-a  lines are lost after 2026-11-20T10:00:00Z: it left")
    assert "\x1b[" in (await tapped.tap("--color", "always")).stdout


async def test_the_last_records_come_first_and_then_what_arrives(tapped: Tapped) -> None:
    for n in range(100):
        rule = "Rare" if n % 40 == 0 else "Frequent"
        await tapped.write(
            tapped.record("alerts.warning", alert(f"{rule} {n}", "Warning"), age_seconds=200 - n)
        )
    await tapped.write(tapped.record("alerts.error", alert("Old", "Error"), age_seconds=900))
    last = ["tap", "--config", str(tapped.config), "--no-follow", "-o", "json", "--tail"]

    async def tail(*arguments: str) -> list[str]:
        done = await asyncio.to_thread(CliRunner().invoke, main, [*last, *arguments])
        assert done.exit_code == 0, done.stderr
        return rules([orjson.loads(line) for line in done.stdout.splitlines()])

    assert await tail("2") == ["Frequent 98", "Frequent 99"]
    assert await tail("2", "-r", "Rare*") == ["Rare 40", "Rare 80"]
    assert await tail("5", "-r", "Rare*") == ["Rare 0", "Rare 40", "Rare 80"]
    assert await tail("5", "-r", "Rare*", "--since", "130s") == ["Rare 80"]
    assert await tail("1", "-x", 'rule =~ "Frequent.*"') == ["Rare 80"]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "streamer", "tap", "-c", str(tapped.config), "--tail", "1", "--template", "{rule}",
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    assert process.stdout is not None
    async with asyncio.timeout(30):
        assert await process.stdout.readline() == b"Frequent 99\n"
        await tapped.write(tapped.record("alerts.warning", alert("Next", "Warning")))
        assert await process.stdout.readline() == b"Next\n"
        process.send_signal(signal.SIGINT)
        assert await process.wait() == 0


async def test_raw_values_are_byte_for_byte(tapped: Tapped) -> None:
    values = [GENERATOR.alert(time.time_ns(), "node-1") for _ in range(30)]
    await tapped.write(
        *(tapped.record("alerts.warning", value, age_seconds=30 - n) for n, value in enumerate(values))
    )
    done = await tapped.tap("-o", "raw")
    assert done.stdout_bytes.splitlines() == values


async def test_what_is_not_committed_is_not_shown(tapped: Tapped) -> None:
    await tapped.write(tapped.record("alerts.warning", alert("Committed", "Warning")))
    producer = await tapped.producer()
    guarded = producer._producer
    assert guarded is not None
    await guarded.begin()
    [[batch]] = await producer._pack(
        guarded, [tapped.record("alerts.warning", alert("Open", "Warning"))], frozenset()
    )
    await (await guarded.send(batch))
    assert rules(await tapped.shown()) == ["Committed"]
    await producer.open()  # ends the transaction without a commit
    await producer.close()
    assert rules(await tapped.shown()) == ["Committed"]


async def test_on_a_terminal_nothing_of_an_alerts_text_acts(tapped: Tapped) -> None:
    evil = alert("Shell", "Warning", **{"proc.name": "\x1b]0;owned\x07\x9b2J\u202e"})
    evil = evil.replace(b"Shell!", b"Shell\xc2\x9b2J\xe2\x80\xae")
    await tapped.write(tapped.record("alerts.warning", evil))
    for output in ("table", "wide", "json", "raw"):
        shown = await on_a_terminal(tapped, output)
        plain = (
            shown.replace("\x1b[2m", "").replace("\x1b[33m", "").replace("\x1b[0m", "").replace("\r\n", "")
        )
        assert "Shell" in plain
        assert not any(char in plain for char in "\x1b\x9b\x07\u202e"), repr(plain)
        assert ("\x1b[33m" in shown) == (output in {"table", "wide"})


async def on_a_terminal(tapped: Tapped, output: str) -> str:
    controller, terminal = pty.openpty()
    arguments = ["tap", "-c", str(tapped.config), "--since", "1h", "--no-follow", "-o", output]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "streamer", *arguments, stdout=terminal, env=os.environ | {"COLUMNS": "200"}
    )
    assert await process.wait() == 0
    os.close(terminal)
    seen = os.read(controller, 100_000)
    os.close(controller)
    return seen.decode()


async def test_it_goes_on_until_it_is_interrupted(tapped: Tapped) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "streamer", "tap", "-c", str(tapped.config), "--since", "1m", "-o", "raw",
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stderr is not None
    async with asyncio.timeout(30):
        assert (await process.stderr.readline()).startswith(
            b"topics that do not exist, or that the ACLs hide: "
        )
        for rule in ("One", "Two"):
            await tapped.write(tapped.record("alerts.warning", alert(rule, "Warning")))
            assert orjson.loads(await process.stdout.readline())["rule"] == rule
        process.send_signal(signal.SIGINT)
        assert await process.wait() == 0
    assert await process.stderr.read() == b""


async def test_a_kafka_that_goes_away_is_told_of_and_waited_for(private_kafka: Kafka, tmp_path: Path) -> None:
    tapped = Tapped(private_kafka, tmp_path)
    for topic in (tapped.state, tapped.topic("alerts.warning")):
        await create_topic(private_kafka.bootstrap, topic)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "streamer", "tap", "-c", str(tapped.config), "--since", "1m", "-o", "raw",
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stderr is not None
    async with asyncio.timeout(90):
        assert (await process.stderr.readline()).startswith(
            b"topics that do not exist, or that the ACLs hide: "
        )
        await tapped.write(tapped.record("alerts.warning", alert("One", "Warning")))
        assert orjson.loads(await process.stdout.readline())["rule"] == "One"
        await asyncio.to_thread(private_kafka.kill)
        told = (await process.stderr.readline()).decode()
        assert told.startswith(f"cannot reach {private_kafka.bootstrap}: connection refused; ")
        assert told.endswith("; waiting for it\n")
        await asyncio.to_thread(private_kafka.start)
        assert await process.stderr.readline() == b"Kafka answers again\n"
        await tapped.write(tapped.record("alerts.warning", alert("Two", "Warning")))
        assert orjson.loads(await process.stdout.readline())["rule"] == "Two"
        process.send_signal(signal.SIGINT)
        assert await process.wait() == 0


async def test_a_kafka_that_is_away_and_topics_that_are_not_there_are_one_line(tapped: Tapped) -> None:
    done = await tapped.tap("--set", "kafka.bootstrap_servers=127.0.0.1:1")
    assert (done.exit_code, done.stdout) == (69, "")
    assert done.stderr.startswith("error: cannot reach 127.0.0.1:1: connection refused; ")
    done = await tapped.tap("--set", "topics.prefix=nobody")
    assert done.exit_code == 69
    assert done.stderr.startswith("error: there is no topic nobody.alerts.emergency, nor any other of 11; ")


@pytest.mark.parametrize(
    "wrong",
    [
        ["--since", "yesterday"],
        ["--since", "2026-11-20T10:00:00"],
        ["--where", "proc.name"],
        ["--where", "rule =~ ("],
        ["--where", "priority = hihg"],
        ["--exclude", "proc.name"],
        ["--template", "{rule"],
        ["--tail", "0"],
        ["--priority", "high"],
        ["--output", "xml"],
    ],
)
def test_what_cannot_be_understood_is_a_usage_error_that_names_the_option(wrong: list[str]) -> None:
    done = CliRunner().invoke(main, ["tap", *wrong])
    assert done.exit_code == 2
    assert wrong[0] in done.stderr.partition("Error: ")[2]
