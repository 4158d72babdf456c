"""File to Kafka: `replay --to kafka` compared with kcat, which sends raw lines and does nothing else."""

from __future__ import annotations

import asyncio
import shutil
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import aiokafka.admin

from bench import rsyslog
from bench.data import alerts_file
from bench.measure import Cost, Row, run, table
from tests.testbed.kafka import Kafka
from tests.testbed.topics import create_topic

EVERYTHING_PASSES: Mapping[str, str] = {"dedupe.enabled": "false", "limits.enabled": "false"}
CONTESTANTS: Mapping[str, Mapping[str, str]] = {
    "parse, route, headers": EVERYTHING_PASSES,
    "and deduplicate, limit (the default)": {},
}


def bench(folder: Path, kafka: Kafka, count: int, runs: int) -> str:
    """The table of this benchmark."""
    path = alerts_file(folder, count)
    size = path.stat().st_size
    nothing = folder / "nothing.jsonl"
    nothing.touch()
    contestants: dict[str, Callable[[Path, str], Cost]] = {}
    if shutil.which("kcat"):
        contestants["kcat (C): raw lines"] = partial(_kcat, folder, kafka)
    if rsyslog.available():
        contestants["rsyslog imfile, omkafka (C): raw lines, one topic"] = partial(_rsyslog, folder, kafka)
    for name, off in CONTESTANTS.items():
        contestants[f"falco-streamer replay: {name}"] = partial(_replay, folder, kafka, off)
    starts: dict[str, list[Cost]] = {name: [] for name in contestants}
    costs: dict[str, list[Cost]] = {name: [] for name in contestants}
    for n in range(runs):
        print(f"bench: file to Kafka, run {n + 1} of {runs}", file=sys.stderr)
        for place, (name, send) in enumerate(contestants.items()):
            starts[name].append(send(nothing, f"start-{n}-{place}"))
            costs[name].append(send(path, f"file-{n}-{place}"))
    rows = [Row(name, count, costs[name], starts[name]) for name in contestants]
    path.unlink()
    return table(f"File to Kafka: {count:,} alerts of {size / count:,.0f} bytes, zstd, {runs} runs", rows)


def _kcat(folder: Path, kafka: Kafka, path: Path, name: str) -> Cost:
    topic = asyncio.run(create_topic(kafka.bootstrap, name, partitions=8))
    command = ["kcat", "-P", "-b", kafka.bootstrap, "-t", topic, "-z", "zstd", "-l", str(path)]
    cost = run(command, folder / "kcat.log")
    asyncio.run(delete_topics(kafka.bootstrap, topic))
    return cost


def _rsyslog(folder: Path, kafka: Kafka, path: Path, name: str) -> Cost:
    topic = asyncio.run(create_topic(kafka.bootstrap, name, partitions=8))
    cost = rsyslog.run_once(folder, path, kafka.bootstrap, topic)
    asyncio.run(delete_topics(kafka.bootstrap, topic))
    return cost


def _replay(folder: Path, kafka: Kafka, more: Mapping[str, str], path: Path, name: str) -> Cost:
    settings = {
        "cluster": name,
        "kafka.bootstrap_servers": kafka.bootstrap,
        "topics.prefix": name,
        "topics.create": "true",
        **more,
    }
    flags = [flag for key, value in settings.items() for flag in ("--set", f"{key}={value}")]
    command = [sys.executable, "-m", "streamer", "replay", "--to", "kafka", *flags, str(path)]
    cost = run(command, folder / "replay.log")
    asyncio.run(delete_topics(kafka.bootstrap, name))
    return cost


async def delete_topics(bootstrap: str, prefix: str) -> None:
    """Make room for the next run."""
    admin = aiokafka.admin.AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        names = [name for name in await admin.list_topics() if name.startswith(prefix)]
        await admin.delete_topics(names)
    finally:
        await admin.close()
