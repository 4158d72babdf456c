"""A shard's state in memory. Its methods change it, and note in the journal what is to be stored of that."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from streamer.model import Ledger, Position, Reason, Target
from streamer.transform.deadlines import Deadlines
from streamer.transform.journal import Journal
from streamer.transform.limit import Bucket, StormBucket
from streamer.transform.share import TargetShares
from streamer.transform.stamp import NEVER
from streamer.transform.volatile import Kind, Kinds
from streamer.transform.windows import Usage, Windows

FORMAT: Final = 1
"""The version of the stored form of every value. A new one is read by one minor release before the next writes it, so
that one can always go back by one; tests/unit/transform/golden has a state of each."""


class StateUnreadableError(Exception):
    """The stored state cannot be used: damaged, from a newer release, or not ours."""


class StateNotOursError(StateUnreadableError):
    """The stored state is another cluster's, or was moved elsewhere: nothing here may use it, or change it."""


class TargetState:  # noqa: PLW1641 -- it changes
    """What a shard knows of one target."""

    __slots__ = (
        "_journal",
        "dead_letters",
        "key",
        "kinds",
        "limits",
        "name",
        "number",
        "position",
        "shares",
        "target",
        "windows",
    )

    def __init__(self, target: Target, number: int, journal: Journal, windows: Windows) -> None:
        self.target = target
        self.name = target.id
        self.number = number
        """Its place among the shard's."""
        self.position = Position()
        self.windows = windows
        self.limits: dict[bytes, StormBucket] = {}
        """The buckets of its alerts, the one not used for longest first."""
        self.shares: TargetShares | None = None
        """What its alerts may take altogether; None as long as they have taken nothing."""
        self.kinds = Kinds()
        """What was learned of alerts whose source nobody has configured."""
        self.dead_letters: dict[Reason, Bucket] = {}
        self.key = b""
        """That of its fingerprints, if it is not its shard's: it came from another shard (`reshard`)."""
        self._journal = journal

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TargetState) and self._parts() == other._parts()

    def _parts(self) -> tuple[object, ...]:
        kinds = self.kinds
        return (
            *(self.target, self.position, self.windows, self.limits, self.shares),
            *(kinds.known, kinds.reported, self.dead_letters, self.key),
        )

    def move(self, position: Position) -> None:
        """Its log is read up to here."""
        self.position = position
        self._journal.put(("position", self.name, b""), self)

    def dead_letter_bucket(self, reason: Reason, burst: int) -> Bucket:
        """The bucket of its dead letters for a reason, which is about to change; a new one holds `burst` tokens."""
        bucket = self.dead_letters.get(reason)
        if bucket is None:
            bucket = self.dead_letters[reason] = Bucket(float(burst), 0)
        self._journal.put(("bucket", self.name, reason.encode()), bucket)
        return bucket

    def use_limit(self, key: bytes) -> StormBucket | None:
        """A bucket of its alerts, which is about to change; None if there is none."""
        bucket = self.limits.pop(key, None)
        if bucket is not None:
            self.put_limit(key, bucket)
        return bucket

    def put_limit(self, key: bytes, bucket: StormBucket) -> None:
        """Keep a bucket as the one that was used last."""
        self.limits[key] = bucket
        self._journal.put(("limit", self.name, key), bucket)

    def drop_limit(self, key: bytes) -> StormBucket:
        """Forget a bucket."""
        self._journal.delete(("limit", self.name, key))
        return self.limits.pop(key)

    def note_limit(self, key: bytes, bucket: StormBucket) -> None:
        """A bucket has changed, or that of the target as a whole."""
        if key:
            self._journal.put(("limit", self.name, key), bucket)
        elif self.shares is not None and bucket is self.shares.storm:
            self.note_shares(self.shares)

    def note_shares(self, shares: TargetShares) -> None:
        """What its alerts take altogether is about to change."""
        self.shares = shares
        self._journal.put(("shares", self.name, b""), shares)

    def kind(self, key: bytes, rule: str, source: str, definition: bytes) -> Kind:
        """A kind of its alerts, which is about to learn."""
        kind, forgotten = self.kinds.of(key, rule, source, definition)
        if forgotten is not None:
            self._journal.delete(("kind", self.name, forgotten))
        self._journal.put(("kind", self.name, key), kind)
        return kind

    def report_kind(self, kind: Kind) -> bool:
        """Note that the volatile fields of a kind are reported; False if all of them were before."""
        if not self.kinds.report(kind):
            return False
        self._journal.put(("volatile", self.name, b""), self.kinds)
        return True

    def keep_kinds(self, definition_of: Callable[[str, str], bytes | None]) -> None:
        """Forget the kinds that are not learned under these settings any more (`Kinds.keep`)."""
        for key in self.kinds.keep(definition_of):
            self._journal.delete(("kind", self.name, key))

    def clear(self) -> None:
        """It is gone: nothing of it is to be stored. What it had counted must have been reported."""
        journal, name = self._journal, self.name
        self.windows.clear()
        for key in list(self.limits):
            self.drop_limit(key)
        for reason in self.dead_letters:
            journal.delete(("bucket", name, reason.encode()))
        for key in self.kinds.known:
            journal.delete(("kind", name, key))
        if self.kinds.reported:
            journal.delete(("volatile", name, b""))
        if self.shares is not None:
            journal.delete(("shares", name, b""))
        if self.key:
            journal.delete(("key", name, b""))
        journal.delete(("position", name, b""))


class ShardState:  # noqa: PLW1641 -- it changes
    """All that a shard must know to go on where it was.

    `sequence` counts commits and `owner` names the process and start that made the last one: after a commit of
    unknown outcome they tell whether it happened, and whether somebody else was here. `key` is that of the
    fingerprints: random, made once, so that nobody can choose alerts with equal ones.
    """

    __slots__ = (
        "_numbers",
        "cluster",
        "journal",
        "key",
        "ledger",
        "owner",
        "sequence",
        "shards",
        "silent",
        "tracked",
        "usage",
    )

    def __init__(
        self,
        cluster: str,
        *,
        ledger: Ledger | None = None,
        sequence: int = 0,
        owner: str = "",
        key: bytes = b"",
        shards: int = 0,
    ) -> None:
        self.cluster = cluster
        self.tracked: dict[str, TargetState] = {}
        """By `Target.id`."""
        self.ledger = Ledger() if ledger is None else ledger
        self.sequence = sequence
        self.owner = owner
        self.key = key
        self.shards = shards
        """Of how many shards this is one; 0 as long as nothing says so."""
        self.journal = Journal()
        self.usage = Usage()
        self.silent = Deadlines[tuple[str, bytes]]()
        """When what targets have counted is due by our clock: by target and group."""
        self._numbers = 0

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ShardState) and self._parts() == other._parts()

    def _parts(self) -> tuple[object, ...]:
        return self.cluster, self.tracked, self.ledger, self.sequence, self.owner, self.key, self.shards

    def take(self, target: Target) -> TargetState:
        """What is known of a target; a new one starts at the beginning."""
        name = target.id
        if (known := self.tracked.get(name)) is None:
            self._numbers += 1
            windows = Windows(name, self.journal, self.usage, self.silent)
            known = self.tracked[name] = TargetState(target, self._numbers, self.journal, windows)
        return known

    def forget(self, target: Target) -> TargetState | None:
        """Drop what is known of a target that is gone."""
        if (known := self.tracked.pop(target.id, None)) is not None:
            known.clear()
        return known

    def next_silent(self, until_ns: int) -> tuple[str, bytes] | None:
        """The next target and group of which something is due by our clock; it must be reported, or put back."""
        return self.silent.pop(until_ns, self._due_ns)

    def tidy(self) -> None:
        """Forget deadlines that are not true any more, where they are many."""
        if len(self.silent) > 2 * self.usage.counting + 64:
            self.silent.renew(self._counting(), self._due_ns)

    def _counting(self) -> Iterator[tuple[str, bytes]]:
        for name, tracked in self.tracked.items():
            for group in tracked.windows.counting:
                yield name, group

    def _due_ns(self, place: tuple[str, bytes]) -> int:
        tracked = self.tracked.get(place[0])
        return NEVER if tracked is None else tracked.windows.due_ns(place[1])
