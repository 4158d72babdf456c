"""Kafka: the only package that imports aiokafka, and the rules that make it safe.

Nothing here knows where records come from or what they mean. Every await on Kafka has a limit in time, a producer
that failed is never used again, and what leaves is a SinkError: one line that names the cause.
"""

from streamer.sink.access import unwritable
from streamer.sink.connection import Connection
from streamer.sink.diagnosis import HOW_TO_GRANT, preflight
from streamer.sink.errors import KafkaUnavailable, SinkError, StateBlocked, TopicsUnfit
from streamer.sink.examine import examine_kafka
from streamer.sink.membership import GroupMembership
from streamer.sink.packing import TopicLimits
from streamer.sink.permissions import transactional_id
from streamer.sink.producer import ShardProducer
from streamer.sink.reader import Message, TopicReader
from streamer.sink.replay_sink import ReplaySink, replay_sink
from streamer.sink.state_topic import glance
from streamer.sink.topics import prepare_topics

__all__ = [
    "HOW_TO_GRANT",
    "Connection",
    "GroupMembership",
    "KafkaUnavailable",
    "Message",
    "ReplaySink",
    "ShardProducer",
    "SinkError",
    "StateBlocked",
    "TopicLimits",
    "TopicReader",
    "TopicsUnfit",
    "examine_kafka",
    "glance",
    "preflight",
    "prepare_topics",
    "replay_sink",
    "transactional_id",
    "unwritable",
]
