"""A peer that Debian ships: rsyslog reads the file (imfile) and writes each line to one topic (omkafka, librdkafka).

Debian's packages are `rsyslog` and `rsyslog-kafka`; without them its row is left out.
"""

from __future__ import annotations

import asyncio
import shutil
import time
from pathlib import Path

from aiokafka import AIOKafkaConsumer, TopicPartition

from bench.measure import Cost, run

_MODULE = Path("/usr/lib/x86_64-linux-gnu/rsyslog/omkafka.so")
_CONFIG = """\
global(workDirectory="{work}" maxMessageSize="64k")
module(load="imfile")
module(load="omkafka")
template(name="raw" type="string" string="%msg%")
input(type="imfile" file="{path}" tag="falco" ruleset="out" readMode="0")
ruleset(name="out" queue.type="LinkedList" queue.size="20000" queue.dequeueBatchSize="2000") {{
  action(type="omkafka" broker="{bootstrap}" topic="{topic}" template="raw" partitions.auto="on"
         confParam=["compression.codec=zstd", "queue.buffering.max.messages=100000", "acks=all", "linger.ms=50"])
}}
"""


def available() -> bool:
    """Whether rsyslog and its Kafka output are installed."""
    return shutil.which("rsyslogd") is not None and _MODULE.exists()


def run_once(folder: Path, path: Path, bootstrap: str, topic: str) -> Cost:
    """Send the file's lines; it follows for ever, so it is stopped once it runs and the topic holds them all."""
    work = folder / topic
    work.mkdir()
    config = work / "rsyslog.conf"
    config.write_text(_CONFIG.format(work=work, path=path, bootstrap=bootstrap, topic=topic))
    with path.open("rb") as file:
        count = sum(1 for _ in file)

    def sent() -> None:
        while not (work / "pid").exists():
            time.sleep(0.01)
        while asyncio.run(_records(bootstrap, topic)) < count:
            time.sleep(0.2)

    command = ["rsyslogd", "-n", "-f", str(config), "-i", str(work / "pid")]
    return run(command, folder / "rsyslog.log", until=sent)


async def _records(bootstrap: str, topic: str) -> int:
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap)
    await consumer.start()
    try:
        partitions = await consumer.end_offsets([TopicPartition(topic, number) for number in range(8)])
        return sum(partitions.values())
    finally:
        await consumer.stop()
