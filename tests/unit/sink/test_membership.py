"""What a worker does with odd metadata: it is the leader's view of a topic that decides who gets which shards."""

from __future__ import annotations

from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.cluster import ClusterMetadata
from aiokafka.protocol.metadata import MetadataResponse_v1

from streamer.sink import KafkaUnavailable
from streamer.sink.assignor import sticky_assignor
from streamer.sink.membership import GroupMembership
from tests.unit.sink.samples import connection

TOPIC = "falco-streamer.test.state"


def cluster(partitions: int) -> ClusterMetadata:
    """Metadata as a broker's answer leaves it."""
    made = ClusterMetadata()
    listed = [(0, number, 0, [0], [0]) for number in range(partitions)]
    made.update_metadata(MetadataResponse_v1([(0, "localhost", 9092, None)], 0, [(0, TOPIC, False, listed)]))
    return made


def members(assignor: type[Any], *names: str) -> dict[str, Any]:
    return {name: assignor.metadata({TOPIC}) for name in names}


@pytest.mark.parametrize("metadata", [ClusterMetadata(), cluster(0)], ids=["unknown", "no partitions"])
def test_the_assignor_refuses_to_assign_a_topic_without_partitions(metadata: ClusterMetadata) -> None:
    assignor = sticky_assignor(lambda: 1)
    with pytest.raises(KafkaUnavailable, match=f"{TOPIC} has no partitions"):
        assignor.assign(metadata, members(assignor, "a", "b"))


def test_more_workers_than_shards_leave_one_with_nothing() -> None:
    assignor = sticky_assignor(lambda: 1)
    assigned = assignor.assign(cluster(1), members(assignor, "a", "b"))
    assert sorted(len(one.partitions()) for one in assigned.values()) == [0, 1]


async def test_a_worker_left_without_shards_refreshes_its_metadata_at_once() -> None:
    given = connection("localhost:1")
    member = GroupMembership(given, cluster="test", state_topic=TOPIC)
    consumer = AIOKafkaConsumer(bootstrap_servers="localhost:1")  # never started
    member._consumer = consumer
    member.on_partitions_assigned([])
    asked = consumer._client._md_update_waiter.done()
    await consumer.stop()
    assert asked
    assert member.assigned == frozenset()
