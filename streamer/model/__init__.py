"""The nouns that flow: plain, immutable data, from a container's log line to a Kafka record.

Nothing here does I/O, reads a clock, logs, or knows a client library. Times are integers of nanoseconds
since the Unix epoch (`_ns`), sizes are bytes.
"""

from streamer.model.alert import Alert, Malformed, Reason, TextClass, TextLine
from streamer.model.batch import LogBatch, Oversize
from streamer.model.coverage import Coverage, CoverageReport
from streamer.model.finding import Finding, Verdict
from streamer.model.gap import CERTAIN_REASONS, Gap, GapReason
from streamer.model.ledger import Ledger
from streamer.model.position import RING_LINES, DigestRing, Position, PositionStatus
from streamer.model.priority import Priority
from streamer.model.record import CORE_FIELDS, Change, Health, Publication, Record, RecordKind, SharedHeaders
from streamer.model.target import Instance, Target

__all__ = [
    "CERTAIN_REASONS",
    "CORE_FIELDS",
    "RING_LINES",
    "Alert",
    "Change",
    "Coverage",
    "CoverageReport",
    "DigestRing",
    "Finding",
    "Gap",
    "GapReason",
    "Health",
    "Instance",
    "Ledger",
    "LogBatch",
    "Malformed",
    "Oversize",
    "Position",
    "PositionStatus",
    "Priority",
    "Publication",
    "Reason",
    "Record",
    "RecordKind",
    "SharedHeaders",
    "Target",
    "TextClass",
    "TextLine",
    "Verdict",
]
