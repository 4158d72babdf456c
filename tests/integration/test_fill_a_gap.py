"""`Fill a gap` of docs/operations.md, as it is written, on real servers: the commands are those of the page.

What the live worker would publish comes of the same log as a real API server serves it, with the kubelet's own reader.
"""

from __future__ import annotations

import asyncio
import gzip
import os
import re
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest
import yaml

from streamer.config import load
from streamer.model import Gap, GapReason, Publication, Record, Target
from streamer.plan import plan_of
from streamer.sink.replay_sink import replay_sink
from streamer.transform.encode import TargetEncoder
from streamer.transform.process import Processor
from streamer.transform.read import LineReader
from streamer.transform.state import ShardState
from tests.e2e.program import SECONDS, environment
from tests.testbed.cluster import FalcoCluster
from tests.testbed.crilog import record
from tests.testbed.kafka import Kafka
from tests.unit.sink.samples import connection, read
from tests.unit.transform.samples import SECOND_NS, START_NS, Feed, alert

pytestmark = pytest.mark.real

ROOT = Path(__file__).parents[2]
PART_BYTES = 16384


def commands() -> list[str]:
    page = (ROOT / "docs" / "operations.md").read_text()
    section = page.split("### Fill a gap\n")[1].split("\n### ")[0]
    found = re.findall(r"```bash\n\s*(.*?)\n\s*```", section, re.DOTALL)
    assert len(found) == 2
    return found


def lines() -> list[tuple[int, bytes]]:
    """Alerts, a long one and one with odd bytes among them, and text of Falco's."""
    times = [START_NS + n * SECOND_NS for n in range(40)]
    bodies = [alert(at, output=f"10:00:0{n % 10}.000000000: Notice number {n}") for n, at in enumerate(times)]
    bodies[20] = alert(times[20], output_fields={"proc.cmdline": "x" * 40_000})
    bodies[21] = alert(times[21], output_fields={"proc.cmdline": "<é>\u2028&"})
    bodies[22] = b"Fri Nov 20 10:00:22 2026: a message of Falco's"
    return list(zip(times, bodies, strict=True))


def of_node(time_ns: int, body: bytes) -> bytes:
    """As containerd writes it, in parts of 16 KiB."""
    parts = [body[at : at + PART_BYTES] for at in range(0, len(body), PART_BYTES)]
    stream = "stdout" if body.startswith(b"{") else "stderr"
    return b"".join(record(part, at=time_ns, stream=stream, tag="P") for part in parts[:-1]) + record(
        parts[-1], at=time_ns, stream=stream
    )


async def served(cluster: FalcoCluster, pod: str) -> bytes:
    async with (
        asyncio.timeout(SECONDS),
        cluster.api.open_log(cluster.namespace, pod, timestamps="true") as answer,
    ):
        return await answer.read()


def live(config: Path, target: Target, log: bytes) -> list[Record]:
    """The records of a worker that reads this log from the API."""
    found = LineReader(786_432).feed(log)
    settings = load(config, [], {})
    processor = Processor(plan_of(settings, cores=1), ShardState(settings.cluster))
    batch = Feed(target).raw_batch(found.lines, found.times_ns)
    return processor.process([batch], time.time_ns()).records


def gap_record(cluster: str, target: Target, topic: str, from_ns: int, to_ns: int) -> Record:
    gap = Gap(GapReason.ROTATION_UNSEEN, certain=False, from_ns=from_ns, to_ns=to_ns)
    found = TargetEncoder(cluster, target).gap(gap, 7, topic, to_ns, time.time_ns())
    return found._replace(timestamp_ms=time.time_ns() // 1_000_000)  # whenever the test runs, it is of today


async def test_a_gap_is_filled_with_the_records_of_the_live_worker(
    cluster: FalcoCluster, kafka: Kafka, tmp_path: Path
) -> None:
    pod = await cluster.add_pod("falco-x7k2p")
    target = Target(pod.namespace, pod.name, pod.uid, "falco", "node-1")
    content = [of_node(at, body) for at, body in lines()]
    pod.log().raw(b"".join(content))
    log = await served(cluster, pod.name)

    folder = tmp_path / "var/log/pods" / f"{pod.namespace}_{pod.name}_{pod.uid}" / "falco"
    folder.mkdir(parents=True)
    (folder / "0.log.20261120-100010.gz").write_bytes(gzip.compress(b"".join(content[:10])))
    # A line goes on in the next file.
    *parts, last = content[20].splitlines(keepends=True)
    (folder / "0.log.20261120-100020").write_bytes(b"".join(content[10:20] + parts))
    (folder / "0.log").write_bytes(last + b"".join(content[21:]))
    stranger = tmp_path / "var/log/pods" / f"falco_falco-other_{uuid.uuid4()}" / "falco"
    stranger.mkdir(parents=True)
    (stranger / "0.log").write_bytes(b"".join(content))

    name = f"gap-{uuid.uuid4().hex[:8]}"
    config = tmp_path / "streamer.yaml"
    config.write_text(
        yaml.safe_dump(
            {
                "cluster": name,
                "kafka": {"bootstrap_servers": [kafka.bootstrap]},
                "topics": {"create": True, "prefix": name},
                "dedupe": {"enabled": False},
                "limits": {"enabled": False},
            }
        )
    )
    settings = load(config, [], {})
    hole = gap_record(name, target, f"{name}.health", lines()[5][0], lines()[30][0])
    async with replay_sink("kafka", settings) as sink:
        await sink.publish(Publication(records=[hole]))

    for command in commands():
        done = await asyncio.to_thread(
            subprocess.run,
            # The page has the namespace of a usual installation.
            ["bash", "-eu", "-o", "pipefail", "-c", command.replace("pods/falco_", f"pods/{pod.namespace}_")],
            cwd=tmp_path,
            env=environment({"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}),
            capture_output=True,
            timeout=SECONDS * 2,
            check=False,
        )
        assert done.returncode == 0, done.stderr.decode()

    everything = live(config, target, log)
    assert len(everything) == len(lines()) - 1  # one is text
    expected = everything[5:30]
    topics = sorted({one.topic for one in everything})
    seen = await read(connection(kafka.bootstrap), *topics)
    assert sorted((m.topic, m.key, m.value, tuple(m.headers), m.timestamp_ms) for m in seen) == sorted(
        (one.topic, one.key, one.value, tuple(one.headers), one.timestamp_ms) for one in expected
    )
    assert seen
