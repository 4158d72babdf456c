"""File to Kafka: `replay --to kafka` beside kcat, which sends raw lines and does nothing else."""

from __future__ import annotations

import asyncio
import shutil
import sys
from pathlib import Path

import aiokafka.admin

from bench import rsyslog
from bench.data import alerts_file
from bench.measure import Cost, Row, run, table
from tests.testbed.kafka import Kafka
from tests.testbed.topics import create_topic

EVERYTHING_PASSES = {"dedupe.enabled": "false", "limits.enabled": "false"}
CONTESTANTS = {
    "parse, route, headers": EVERYTHING_PASSES,
    "and deduplicate, limit (the default)": {},
}


def bench(folder: Path, kafka: Kafka, count: int, runs: int) -> str:
    """The table of this benchmark."""
    path = alerts_file(folder, count)
    size = path.stat().st_size
    kcat: list[Cost] = []
    peer: list[Cost] = []
    ours: dict[str, list[Cost]] = {name: [] for name in CONTESTANTS}
    for n in range(runs):
        print(f"bench: file to Kafka, run {n + 1} of {runs}", file=sys.stderr)
        if shutil.which("kcat"):
            topic = asyncio.run(create_topic(kafka.bootstrap, f"kcat-{n}", partitions=8))
            command = ["kcat", "-P", "-b", kafka.bootstrap, "-t", topic, "-z", "zstd", "-l", str(path)]
            kcat.append(run(command, folder / "kcat.log"))
            asyncio.run(delete_topics(kafka.bootstrap, topic))
        if rsyslog.available():
            topic = asyncio.run(create_topic(kafka.bootstrap, f"rsyslog-{n}", partitions=8))
            peer.append(rsyslog.run_once(folder, path, kafka.bootstrap, topic))
            asyncio.run(delete_topics(kafka.bootstrap, topic))
        for name, off in CONTESTANTS.items():
            settings = {
                "cluster": f"file-{n}",
                "kafka.bootstrap_servers": kafka.bootstrap,
                "topics.prefix": f"file-{n}",
                "topics.create": "true",
                **off,
            }
            flags = [flag for key, value in settings.items() for flag in ("--set", f"{key}={value}")]
            command = [sys.executable, "-m", "streamer", "replay", "--to", "kafka", *flags, str(path)]
            ours[name].append(run(command, folder / "replay.log"))
            asyncio.run(delete_topics(kafka.bootstrap, f"file-{n}"))
    rows = [Row("kcat (C): raw lines", count, kcat)] if kcat else []
    if peer:
        rows.append(Row("rsyslog imfile, omkafka (C): raw lines, one topic", count, peer))
    rows += [Row(f"falco-streamer replay: {name}", count, costs) for name, costs in ours.items()]
    path.unlink()
    return table(f"File to Kafka: {count:,} alerts of {size / count:,.0f} bytes, zstd, {runs} runs", rows)


async def delete_topics(bootstrap: str, prefix: str) -> None:
    """Make room for the next run."""
    admin = aiokafka.admin.AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        names = [name for name in await admin.list_topics() if name.startswith(prefix)]
        await admin.delete_topics(names)
    finally:
        await admin.close()
