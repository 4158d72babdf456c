"""What has changed of a shard's state since it was stored last."""

from __future__ import annotations

Place = tuple[str, str, bytes]
"""Where a part of a target's state is stored: its kind, the `Target.id`, and what distinguishes it within both."""


class Journal:
    """The places whose stored value is not the one in memory, in the order in which they changed.

    What changes a part of the state puts it here, as an object that is encoded when the transaction is sealed: what
    changes often within one is written once.
    """

    __slots__ = ("_deleted", "entries")

    def __init__(self) -> None:
        self.entries: dict[Place, object | None] = {}
        """What is to be stored at each place; None deletes it."""
        self._deleted: set[Place] = set()
        # Those of which something is stored.

    def put(self, place: Place, what: object) -> None:
        """What is to be stored at a place."""
        self.entries[place] = what

    def delete(self, place: Place) -> None:
        """What is stored at a place is to be deleted."""
        self._deleted.add(place)
        self.entries[place] = None

    def cancel(self, place: Place) -> None:
        """What was put at a place since the last transaction is not to be stored."""
        if place in self._deleted:
            self.entries[place] = None
        else:
            self.entries.pop(place, None)

    def take(self) -> dict[Place, object | None]:
        """All that has changed; from now on it counts as stored."""
        taken, self.entries = self.entries, {}
        self._deleted.clear()
        return taken
