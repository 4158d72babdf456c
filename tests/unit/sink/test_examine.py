"""What is found out of a broker that tells little: no permissions, no settings of topics."""

from __future__ import annotations

from streamer.config import Settings
from streamer.model import Verdict
from streamer.sink import examine_kafka
from streamer.sink.mock_broker import MockBroker


async def test_a_broker_that_tells_no_permissions_is_believed_to_allow_all(broker: MockBroker) -> None:
    settings = Settings.model_validate(
        {"cluster": "prod", "kafka": {"bootstrap_servers": [broker.bootstrap]}, "topics": {"prefix": "t"}}
    )
    found = [finding async for finding in examine_kafka(settings)]
    assert [(finding.check, finding.verdict) for finding in found] == [
        ("kafka", Verdict.FINE),
        ("kafka.acl", Verdict.FINE),
        ("kafka.topics.missing", Verdict.FAULT),
    ]
    assert found[-1].fix.count("kafka-topics.sh") == len(settings.topic_specs)
