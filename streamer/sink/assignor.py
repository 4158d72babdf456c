"""How the group's leader divides the shards among the workers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from aiokafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor

from streamer.sink.errors import KafkaUnavailable


def sticky_assignor(generation: Callable[[], int]) -> type[Any]:
    """An assignor of one's own for each membership.

    It refuses to assign a topic of which the leader knows no partitions: every worker would lose its shards. The
    leader then leaves the group and joins again, with new metadata.

    aiokafka keeps what a member had on the class, where all consumers of a process would meet (aiokafka#1175), and
    never passes the generation to it (aiokafka#1176): a member that comes back from a long sleep would claim what it
    had as if nobody had it now.
    """

    class Sticky(StickyPartitionAssignor):  # type: ignore[misc]  # aiokafka has no types
        refusal: KafkaUnavailable | None = None
        """Why the last assignment was refused, until somebody has reported it."""

        @classmethod
        def assign(cls, cluster: Any, members: Any) -> Any:
            """Divide the partitions; raises `KafkaUnavailable` if a topic has none."""
            for topic in sorted({topic for member in members.values() for topic in member.subscription}):
                if not cluster.partitions_for_topic(topic):
                    cls.refusal = KafkaUnavailable(
                        f"topic {topic} has no partitions by the metadata of this worker",
                        "it asks again at once; if this goes on, look at the topic with `kafka-topics.sh --describe`",
                    )
                    raise cls.refusal
            return super().assign(cluster, members)

        @classmethod
        def on_assignment(cls, assignment: Any) -> None:
            super().on_assignment(assignment)
            cls.generation = generation()

    return Sticky
