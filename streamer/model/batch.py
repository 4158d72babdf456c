"""The unit of hand-over from a source to a shard."""

from __future__ import annotations

from dataclasses import dataclass, field

from streamer.model.gap import Gap
from streamer.model.position import DigestRing, PositionStatus
from streamer.model.target import Instance, Target


@dataclass(frozen=True, slots=True)
class Oversize:
    """What is known of a line that was too long to keep: its first bytes stand in the batch."""

    original_bytes: int
    digest: bytes


@dataclass(slots=True)
class LogBatch:
    """The complete lines of one network read of one target, and the position that they lead to.

    `lines` are as the API sent them, timestamp included, without their newline; `times_ns` are those
    timestamps. In a file without timestamps (`stamped` false) `times_ns` is empty and the alert's own time is
    used. A batch without lines moves the position only (its status, a gap).
    """

    target: Target
    lines: list[bytes]
    times_ns: list[int]
    ring: DigestRing = field(default_factory=DigestRing)
    size_bytes: int = 0
    stamped: bool = True
    oversize: dict[int, Oversize] = field(default_factory=dict)
    """By index in `lines`."""
    fragments: int = 0
    """Pieces without a timestamp that came with these lines: not lines, outside the ledger."""
    gap: Gap | None = None
    instance: Instance | None = None
    status: PositionStatus = PositionStatus.ATTACHED
    read_ns: int = 0
    """When it was read, by our clock; 0 where nobody asks."""
