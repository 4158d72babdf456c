"""What can go wrong at Kafka, in the few ways that a caller can act on.

Every message is one line that names the cause, and the fix where there is one.
"""

from __future__ import annotations

from collections.abc import Mapping

from streamer.model import Reason


class SinkError(Exception):
    """What the sink raises; everything else that leaves it is a bug."""


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

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class PublishFailed(SinkError):  # noqa: N818 - as above
    """The publication did not, or may not have, come through; the state as loaded by `open()` tells which."""

    def __init__(self, cause: str) -> None:
        super().__init__(cause)
        self.cause = cause


class Fenced(SinkError):  # noqa: N818 - as above
    """Another producer has taken the shard over, or the broker ended our transaction for its age.

    Kafka's answer is the same for both. Taking the shard back at once would fence the other in turn.
    """


class BatchRefused(SinkError):  # noqa: N818 - as above
    """Kafka refused batches of several records for one of them: publish again with these topics isolated."""

    def __init__(self, topics: frozenset[str], reason: Reason) -> None:
        super().__init__(f"Kafka refused a batch ({reason}) of {', '.join(sorted(topics))}")
        self.topics = topics
        self.reason = reason


class RecordsRefused(SinkError):  # noqa: N818 - as above
    """Kafka refuses exactly these records for themselves and will do so each time.

    `records` has the ids of the refused ones by topic.
    """

    def __init__(self, records: Mapping[str, frozenset[str]], reason: Reason) -> None:
        count = sum(map(len, records.values()))
        super().__init__(f"Kafka refuses {count} record(s) ({reason}) of {', '.join(sorted(records))}")
        self.records = records
        self.reason = reason
