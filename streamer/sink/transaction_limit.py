"""Whether the brokers allow transactions as long as ours: `transaction.max.timeout.ms`."""

from __future__ import annotations

from typing import Final

import aiokafka.errors as kafka_errors
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from streamer.model import Finding, Verdict
from streamer.sink.admin import Admin
from streamer.sink.guarded import TRANSACTION_TIMEOUT_MS

_KEY: Final = "transaction.max.timeout.ms"


async def examine_transaction_limit(asked: Admin) -> Finding | None:
    """What is wrong with it; None also where we may not read brokers' settings."""
    client = asked.client
    wanted = [
        ConfigResource(ConfigResourceType.BROKER, str(broker.nodeId), {_KEY: None})
        for broker in client.cluster.brokers()
    ]
    try:
        answers = await asked.describe(wanted)
    except kafka_errors.IncompatibleBrokerVersion:
        return None
    limits = [
        int(entry[1])
        for answer in answers
        for error, _, _, _, entries in answer.resources
        for entry in entries
        if not error and entry[0] == _KEY and entry[1] is not None
    ]
    if min(limits, default=TRANSACTION_TIMEOUT_MS) >= TRANSACTION_TIMEOUT_MS:
        return None
    return Finding(
        "kafka.transactions",
        Verdict.FAULT,
        f"the brokers allow no transaction of {TRANSACTION_TIMEOUT_MS // 1000} s: {_KEY} is {min(limits)}",
        f"raise {_KEY} on the brokers",
    )
