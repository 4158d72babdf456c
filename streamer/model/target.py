"""What is followed: one container of one pod instance."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Target:
    """One container of one pod instance; its uid distinguishes it from a later pod of the same name."""

    namespace: str
    pod: str
    uid: str
    container: str
    node: str

    @property
    def id(self) -> str:
        """The name under which a shard keeps this target's state. No part can contain a slash."""
        return f"{self.namespace}/{self.pod}/{self.uid}/{self.container}"

    @property
    def pod_name(self) -> str:
        """`namespace/pod`, the key of the target's records."""
        return f"{self.namespace}/{self.pod}"


@dataclass(frozen=True, slots=True)
class Instance:
    """One run of a target's container: a restart makes another, with a log file of its own."""

    container_id: str
    restart_count: int
