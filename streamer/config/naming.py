"""The topics' names with all places filled in: every topic that this worker can write, and no other."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from streamer.config.faults import Fault
from streamer.config.topics import OPTIONAL_SETTINGS, TopicClass, Topics
from streamer.model import Priority

_LONGEST = 249


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """One topic as it is to be made where it is missing; -1 is the broker's default."""

    name: str
    kind: TopicClass
    partitions: int
    replication_factor: int
    config: Mapping[str, str]

    def without_optional(self) -> TopicSpec:
        """The same topic without the defaults that it can do without."""
        kept = {name: value for name, value in self.config.items() if OPTIONAL_SETTINGS.get(name) != value}
        return self if self.kind != "state" else replace(self, config=kept)


class TopicNames:
    """Which topic is written for what."""

    __slots__ = ("_alerts", "_names", "dead_letter", "health", "overflow", "routes", "state", "summaries")

    def __init__(self, topics: Topics, cluster: str, routes: Sequence[str] = ()) -> None:
        def fill(template: str) -> str:
            return template.replace("<prefix>", topics.prefix).replace("<cluster>", cluster)

        self._alerts = {
            each: fill(getattr(topics.alerts, each.label)).replace("<priority>", each.label)
            for each in Priority
        }
        self.summaries = fill(topics.summaries)
        self.overflow = fill(topics.overflow)
        self.dead_letter = fill(topics.dead_letter)
        self.health = fill(topics.health)
        self.state = fill(topics.state)
        self.routes = tuple(map(fill, routes))
        """The routes' topics, in the routes' order."""
        self._names: list[tuple[tuple[str | int, ...], TopicClass, str]] = [
            *((("topics", "alerts", each.label), "alerts", name) for each, name in self._alerts.items()),
            *((("routes", at, "topic"), "alerts", name) for at, name in enumerate(self.routes)),
            (("topics", "summaries"), "summaries", self.summaries),
            (("topics", "overflow"), "overflow", self.overflow),
            (("topics", "dead_letter"), "dead_letter", self.dead_letter),
            (("topics", "health"), "health", self.health),
            (("topics", "state"), "state", self.state),
        ]

    def alert_topic(self, priority: Priority) -> str:
        """The topic for alerts of this priority that no route claims."""
        return self._alerts[priority]

    def by_priority(self) -> dict[Priority, str]:
        """The topic of every priority."""
        return dict(self._alerts)

    def all_topics(self) -> dict[str, TopicClass]:
        """Every topic's name, once, with the class whose `topics.config` it takes; the state topic is the last."""
        classes: dict[str, TopicClass] = {}
        for _, kind, name in self._names:
            classes.setdefault(name, kind)
        return classes

    def specs(self, topics: Topics, shards: int) -> tuple[TopicSpec, ...]:
        """Every topic as it is to be made."""
        return tuple(
            TopicSpec(
                name,
                kind,
                shards if kind == "state" else topics.partitions,
                topics.replication_factor,
                getattr(topics.config, kind),
            )
            for name, kind in self.all_topics().items()
        )

    def faults(self, topics: Topics) -> list[Fault]:
        """What Kafka would refuse, and what would mix up records."""
        faults = []
        owners: dict[str, tuple[str, TopicClass, str]] = {}
        for at, kind, name in self._names:
            place = ".".join(map(str, at))
            # Kafka's metrics write a dot as an underscore, so it takes no two names that differ in that alone.
            owner, owner_kind, other = owners.setdefault(name.replace(".", "_"), (place, kind, name))
            if not re.fullmatch(r"[A-Za-z0-9._-]{1,249}", name) or name in {".", ".."}:
                reason = (
                    f"`{name}` is not a legal topic name: 1 to {_LONGEST} characters, and not `.` or `..`"
                )
                faults.append(Fault(at, reason))
            elif name != other:
                faults.append(
                    Fault(at, f"`{name}` and `{other}` of `{owner}` are one name to Kafka's metrics")
                )
            elif kind == "state" and owner != place:
                reason = f"the state topic must be apart from all others, but `{name}` is also `{owner}`"
                faults.append(Fault(at, reason))
            elif topics.create and getattr(topics.config, kind) != getattr(topics.config, owner_kind):
                reason = (
                    f"`{name}` is also `{owner}`, but `topics.config.{kind}` and "
                    f"`topics.config.{owner_kind}` differ"
                )
                faults.append(Fault(at, reason))
        return faults
