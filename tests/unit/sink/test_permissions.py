"""The permissions that are printed: what is needed, and in the words of Kafka and Strimzi."""

from __future__ import annotations

import shlex
from itertools import pairwise
from typing import Any

import yaml

from streamer.config import Settings
from streamer.sink.permissions import (
    Permission,
    acl_commands,
    consumer_permissions,
    strimzi_user,
    worker_permissions,
)


def settings(**topics: Any) -> Settings:
    kafka = {"bootstrap_servers": ["kafka:9092"], "delivery": topics.pop("delivery", "exactly_once")}
    return Settings.model_validate({"cluster": "prod", "kafka": kafka, "topics": topics})


STATE = "falco-streamer.prod.state"


def test_the_worker_reads_its_state_only() -> None:
    needed = worker_permissions(settings())
    assert [one.name for one in needed if one.operation == "READ"] == [STATE, "falco-streamer.prod"]
    assert Permission("transactional_id", "falco-streamer.prod-", "WRITE", prefixed=True) in needed
    assert {one.name for one in needed if one.operation == "WRITE" and one.resource == "topic"} == {
        spec.name for spec in settings().topic_specs
    }


def test_who_makes_topics_may_create_them_and_who_has_no_transactions_needs_no_id() -> None:
    assert not any(one.operation == "CREATE" for one in worker_permissions(settings()))
    creates = [one.name for one in worker_permissions(settings(create=True)) if one.operation == "CREATE"]
    assert len(creates) == len(settings().topic_specs)
    assert not any(
        one.resource == "transactional_id" for one in worker_permissions(settings(delivery="at_least_once"))
    )


def test_consumers_read_all_but_the_state() -> None:
    needed = consumer_permissions(settings(), "siem-")
    assert {one.operation for one in needed} == {"READ"}
    assert STATE not in {one.name for one in needed}
    assert needed[-1] == Permission("group", "siem-", "READ", prefixed=True)
    assert len(needed) == len(settings().topic_specs)


def test_commands_grant_each_permission_once() -> None:
    needed = worker_permissions(settings(create=True))
    granted = []
    for command in acl_commands(needed, "User:it's me", ["a:1", "b:2"]):
        words = shlex.split(command)
        assert words[:4] == ["kafka-acls.sh", "--bootstrap-server", "a:1,b:2", "--add"]
        assert words[words.index("--allow-principal") + 1] == "User:it's me"
        pairs = list(pairwise(words))
        prefixed = ("--resource-pattern-type", "prefixed") in pairs
        for flag, name in pairs:
            if flag in {"--topic", "--group", "--transactional-id"}:
                kind = flag[2:].replace("-", "_")
                granted += [(kind, name, op, prefixed) for at, op in pairs if at == "--operation"]
    wanted = [
        (
            one.resource,
            one.name,
            "".join(part.capitalize() for part in one.operation.split("_")),
            one.prefixed,
        )
        for one in needed
    ]
    assert sorted(granted) == sorted(wanted)


def test_strimzi_is_told_the_same() -> None:
    needed = worker_permissions(settings())
    user = yaml.safe_load(strimzi_user(needed, "falco-streamer", "my-cluster", "tls"))
    assert (user["apiVersion"], user["kind"]) == ("kafka.strimzi.io/v1", "KafkaUser")  # as the chart has it
    assert user["metadata"] == {"name": "falco-streamer", "labels": {"strimzi.io/cluster": "my-cluster"}}
    assert user["spec"]["authentication"] == {"type": "tls"}
    acls = user["spec"]["authorization"]["acls"]
    assert sum(len(acl["operations"]) for acl in acls) == len(needed)
    assert {
        "resource": {"type": "transactionalId", "name": "falco-streamer.prod-", "patternType": "prefix"},
        "operations": ["Write"],
    } in acls
    assert {
        "resource": {"type": "topic", "name": STATE, "patternType": "literal"},
        "operations": ["Read", "Write", "DescribeConfigs"],
    } in acls
    assert "authentication" not in yaml.safe_load(strimzi_user(needed, "x", "y", None))["spec"]
