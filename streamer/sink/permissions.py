"""The permissions at Kafka that the worker and its topics' consumers need, and how an administrator grants them."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, Literal, NamedTuple

import yaml

from streamer.config import Settings

Resource = Literal["topic", "group", "transactional_id"]
Operation = Literal["READ", "WRITE", "CREATE", "DESCRIBE_CONFIGS"]

_FLAGS: Final[dict[Resource, str]] = {
    "topic": "--topic",
    "group": "--group",
    "transactional_id": "--transactional-id",
}
_STRIMZI: Final[dict[Resource, str]] = {
    "topic": "topic",
    "group": "group",
    "transactional_id": "transactionalId",
}
_WORDS: Final[dict[Resource, str]] = {
    "topic": "topic",
    "group": "group",
    "transactional_id": "transactional id",
}


class Permission(NamedTuple):
    """One ACL. READ and WRITE each imply DESCRIBE, which therefore stands nowhere."""

    resource: Resource
    name: str
    operation: Operation
    prefixed: bool = False

    def __str__(self) -> str:
        pattern = "s that begin with" if self.prefixed else ""
        return f"{self.operation} on the {_WORDS[self.resource]}{pattern} {self.name}"


def transactional_id(cluster: str, shard: int) -> str:
    """The name under which a shard's owner writes, and fences the owner before it."""
    return f"{_transactional_prefix(cluster)}{shard}"


def probing_id(cluster: str) -> str:
    """A transactional id that no shard has, though what is granted to all of them is granted to it."""
    return f"{_transactional_prefix(cluster)}doctor"


def consumer_group(cluster: str) -> str:
    """The group that the cluster's workers form on the state topic, to share the shards."""
    return f"falco-streamer.{cluster}"


def worker_permissions(settings: Settings) -> list[Permission]:
    """What the worker needs, and nothing beyond."""
    needed: list[Permission] = []
    for spec in settings.topic_specs:
        operations: Iterable[Operation] = ["WRITE", "DESCRIBE_CONFIGS"]
        if spec.kind == "state":
            operations = ["READ", *operations]
        if settings.topics.create:
            operations = [*operations, "CREATE"]
        needed += [Permission("topic", spec.name, operation) for operation in operations]
    needed.append(Permission("group", consumer_group(settings.cluster), "READ"))
    if settings.kafka.delivery == "exactly_once":
        prefix = _transactional_prefix(settings.cluster)
        needed.append(Permission("transactional_id", prefix, "WRITE", prefixed=True))
    return needed


def consumer_permissions(settings: Settings, group: str) -> list[Permission]:
    """What a consumer of the alerts needs: every topic but the state topic, and a group of its own."""
    topics = [spec.name for spec in settings.topic_specs if spec.kind != "state"]
    return [
        *(Permission("topic", topic, "READ") for topic in topics),
        Permission("group", group, "READ", prefixed=True),
    ]


def acl_commands(
    permissions: Iterable[Permission], principal: str, bootstrap_servers: Sequence[str]
) -> Iterator[str]:
    """The commands of Kafka's own that grant them: one for all that is granted alike."""
    for (resource, prefixed, operations), names in _alike(permissions).items():
        words = ["kafka-acls.sh", "--bootstrap-server", ",".join(bootstrap_servers), "--add"]
        words += ["--allow-principal", principal]
        for operation in operations:
            words += ["--operation", "".join(part.capitalize() for part in operation.split("_"))]
        if prefixed:
            words += ["--resource-pattern-type", "prefixed"]
        for name in names:
            words += [_FLAGS[resource], name]
        yield shlex.join(words)


def strimzi_user(permissions: Iterable[Permission], name: str, kafka: str, authentication: str | None) -> str:
    """The same as Strimzi's KafkaUser; `kafka` is the name of the Kafka resource."""
    acls = [
        {
            "resource": {
                "type": _STRIMZI[resource],
                "name": each,
                "patternType": "prefix" if prefixed else "literal",
            },
            "operations": [
                "".join(part.capitalize() for part in operation.split("_")) for operation in operations
            ],
        }
        for (resource, prefixed, operations), names in _alike(permissions).items()
        for each in names
    ]
    user = {
        "apiVersion": "kafka.strimzi.io/v1",
        "kind": "KafkaUser",
        "metadata": {"name": name, "labels": {"strimzi.io/cluster": kafka}},
        "spec": ({"authentication": {"type": authentication}} if authentication else {})
        | {"authorization": {"type": "simple", "acls": acls}},
    }
    return str(yaml.safe_dump(user, sort_keys=False))


def _transactional_prefix(cluster: str) -> str:
    return f"falco-streamer.{cluster}-"


def _alike(
    permissions: Iterable[Permission],
) -> dict[tuple[Resource, bool, tuple[Operation, ...]], list[str]]:
    """Names by what they have in common; in the order in which they come."""
    operations: dict[tuple[Resource, str, bool], list[Operation]] = {}
    for resource, name, operation, prefixed in permissions:
        operations.setdefault((resource, name, prefixed), []).append(operation)
    found: dict[tuple[Resource, bool, tuple[Operation, ...]], list[str]] = {}
    for (resource, name, prefixed), granted in operations.items():
        found.setdefault((resource, prefixed, tuple(granted)), []).append(name)
    return found
