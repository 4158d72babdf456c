"""Clusters of Kafka whose brokers are set so that no record can be written, or only slowly."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import partial
from typing import Any

from tests.testbed.kafka import Kafka
from tests.testbed.planted import Setup, Table

BROKERS = Table()
UNMAKEABLE = {"offsets.topic.replication.factor": "3", "transaction.state.log.replication.factor": "3"}
"""A single broker with Kafka's own defaults: its internal topics want three."""
UNWRITABLE = {"transaction.state.log.min.isr": "2"}


async def broker(setup: Setup, properties: Mapping[str, str], **more: Any) -> Kafka:
    """A broker of the set-up's own (4 s)."""
    made = Kafka(extra_properties=properties, **more)
    setup.stack.callback(made.close)
    await asyncio.to_thread(made.start)
    setup.kafka["bootstrap_servers"] = [made.bootstrap]
    return made


async def _with(properties: Mapping[str, str], setup: Setup) -> None:
    await broker(setup, properties)


BROKERS.add(
    "internal topics that cannot be created",
    partial(_with, UNMAKEABLE),
    "no transaction coordinator: Kafka has not created its topic __transaction_state",
)
BROKERS.add(
    "a transaction log that cannot be written",
    partial(_with, UNWRITABLE),
    "the transaction coordinator cannot write",
)
BROKERS.add(
    "transactions that may last for ten seconds",
    partial(_with, {"transaction.max.timeout.ms": "10000"}),
    "the brokers allow no transaction of 15 s",
)
BROKERS.add(
    "a broker that is reached at another address than it says",
    partial(_with, {"advertised.listeners": "CLIENT://127.0.0.1:1,INTERNAL://127.0.0.1:2"}),
    "cannot be reached where it says it is, 127.0.0.1:1: connection refused",
)
