"""Kafka: the only package that imports aiokafka, and the rules that make it safe.

Nothing here knows where records come from or what they mean. Every await on Kafka has a limit in time, a producer
that failed is never used again, and what leaves is one of the errors in `errors`, in one line that names the cause.
"""

from streamer.sink.connection import Connection, preflight
from streamer.sink.errors import (
    BatchRefused,
    Fenced,
    KafkaUnavailable,
    PublishFailed,
    RecordsRefused,
    SinkError,
    StateBlocked,
    TopicsUnfit,
)
from streamer.sink.packing import TopicLimits
from streamer.sink.producer import ShardProducer, transactional_id
from streamer.sink.reader import Message, TopicReader

__all__ = [
    "BatchRefused",
    "Connection",
    "Fenced",
    "KafkaUnavailable",
    "Message",
    "PublishFailed",
    "RecordsRefused",
    "ShardProducer",
    "SinkError",
    "StateBlocked",
    "TopicLimits",
    "TopicReader",
    "TopicsUnfit",
    "preflight",
    "transactional_id",
]
