"""What can go wrong at Kafka beyond the contract between a shard and its publisher (`streamer.flow.publishing`).

Every message is one line that names the cause, and the fix where there is one.
"""

from __future__ import annotations

from streamer.flow.publishing import PublishError
from streamer.model import Finding

SinkError = PublishError
"""Whatever the sink raises; a shard knows it by its own name for it."""


class KafkaUnavailable(SinkError):  # noqa: N818 - the name says what is, and callers wait and try again
    """No client can work at the moment: nobody answers, or we are not let in."""

    def __init__(self, cause: str, fix: str = "") -> None:
        super().__init__(f"{cause}; {fix}" if fix else cause)
        self.cause = cause
        self.fix = fix


class StateBlocked(SinkError):  # noqa: N818 - as above
    """A shard's partition of the state topic cannot be read to its end: somebody's transaction is open in it."""


class TopicsUnfit(SinkError):  # noqa: N818 - as above
    """Topics are missing or set up so that the promise cannot be kept: a matter of configuration.

    `problems` has one entry a finding, each with its fix.
    """

    def __init__(self, findings: list[Finding]) -> None:
        self.problems = [f"{one.what}; {one.fix}" if one.fix else one.what for one in findings]
        super().__init__("\n".join(self.problems))
