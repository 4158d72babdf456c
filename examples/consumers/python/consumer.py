r"""Read alerts from Kafka and count them, repeats included. Runs in our integration tests.

    pip install aiokafka
    python consumer.py --bootstrap kafka:9092 --topics 'falco\.(alerts\..*|summaries|overflow)'

One JSON object a line: id, kind, rule, priority, pod, count, limited_by, text, commands. `count` is 1 for an alert; for
a summary it is how many alerts it stands for. Their sum is what Falco wrote, less what was filtered. `limited_by` says
which limit diverted an alert to the overflow topic, else it is null. `commands` has the command line of each variant.
"""

import argparse
import asyncio
import json
import sys
from typing import Any

from aiokafka import AIOKafkaConsumer


def describe(key: bytes, value: bytes, headers: dict[str, str]) -> dict[str, object]:
    """What is worth knowing of one record."""
    alert = json.loads(value)
    summary = alert.get("summary") if headers["kind"] == "summary" else None
    return {
        "id": headers["ce_id"],  # the same whenever the same line is read: a document id
        "kind": headers["kind"],
        "rule": headers["rule"],
        "priority": headers["priority"],
        "pod": key.decode(),
        "count": summary["count"] if summary else 1,
        "limited_by": headers.get("limited_by"),
        "text": alert.get("output", ""),
        "commands": [fields.get("proc.cmdline") for fields in variants(alert)],
    }


def variants(alert: dict[str, Any]) -> list[dict[str, Any]]:
    """The fields of each variant that a record shows: of an alert, its own; of a summary, those of all it counts."""
    shared = alert.get("output_fields") or {}
    counted = alert.get("summary", {}).get("variants", [{"fields": {}}])
    return [shared | variant["fields"] for variant in counted]


async def consume(bootstrap: str, topics: str, group: str, *, until_quiet_seconds: float | None) -> None:
    """Print what comes; an offset is committed after its record was printed."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap,
        group_id=group,
        isolation_level="read_committed",  # the default of most clients shows records that were aborted
        auto_offset_reset="earliest",
        enable_auto_commit=False,
    )
    consumer.subscribe(pattern=topics)
    await consumer.start()
    try:
        while True:
            wait_ms = 1000 if until_quiet_seconds is None else int(until_quiet_seconds * 1000)
            batches = await consumer.getmany(timeout_ms=wait_ms)
            for records in batches.values():
                for record in records:
                    headers = {name: text.decode(errors="replace") for name, text in record.headers}
                    if headers.get("kind") in ("alert", "summary"):  # further kinds may come
                        sys.stdout.write(json.dumps(describe(record.key, record.value, headers)) + "\n")
            sys.stdout.flush()
            if batches:
                await consumer.commit()
            elif until_quiet_seconds is not None:
                return
    finally:
        await consumer.stop()


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Read Falco's alerts from Kafka.")
    parser.add_argument("--bootstrap", default="localhost:9092")
    parser.add_argument(
        "--topics",
        default=r"falco\.(alerts\..*|summaries|overflow)",
        help="a regular expression over topics' names",
    )
    parser.add_argument("--group", default="falco-example")
    parser.add_argument("--until-quiet-seconds", type=float, help="end when nothing has come for so long")
    given = parser.parse_args()
    asyncio.run(
        consume(given.bootstrap, given.topics, given.group, until_quiet_seconds=given.until_quiet_seconds)
    )


if __name__ == "__main__":
    main()
