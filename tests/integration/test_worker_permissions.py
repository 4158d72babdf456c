"""A worker that lacks a permission says which one, and goes on by itself once it has it."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any

import pytest
import yaml

from streamer.config import Settings
from streamer.simulator import AlertGenerator
from streamer.sink.permissions import Permission, worker_permissions
from tests.integration.installation import Installation, installed
from tests.integration.oracle import oracle
from tests.integration.worker import WorkerProcess
from tests.testbed.apiserver import KubeApiServer
from tests.testbed.client import KubeApi
from tests.testbed.kubelet import Kubelet
from tests.testbed.secure_kafka import PASSWORD, USER, SecureKafka, acl
from tests.testbed.topics import create_topic

pytestmark = pytest.mark.real


@pytest.fixture
async def installation(
    api_server: KubeApiServer, api: KubeApi, kubelet: Kubelet, secure_kafka: SecureKafka
) -> AsyncIterator[Installation]:
    async with installed(
        api_server, api, kubelet, secure_kafka, pods=2, namespaces=1, generator=AlertGenerator(2)
    ) as made:
        yield made


def with_password(installation: Installation, secure_kafka: SecureKafka) -> dict[str, Any]:
    """A worker's settings, who logs in by password."""
    settings = installation.settings()
    settings["kafka"] |= {
        "bootstrap_servers": [secure_kafka.at("SASL")],
        "security": {
            "protocol": "sasl_ssl",
            "ca_file": str(secure_kafka.trusted),
            "sasl": {"username": USER, "password": PASSWORD},
        },
    }
    return settings


async def heard(worker: WorkerProcess, event: str) -> list[dict[str, Any]]:
    async with asyncio.timeout(40):
        while not (said := worker.said(event)):  # noqa: ASYNC110 - its log is a file
            await asyncio.sleep(0.05)
    return said


def acls_of(needed: Iterable[Permission]) -> list[Any]:
    return [acl(one.resource, one.name, one.operation, prefixed=one.prefixed) for one in needed]


async def test_a_group_that_may_not_be_joined_is_one_line_with_the_acl_that_is_missing(
    installation: Installation, secure_kafka: SecureKafka, tmp_path: Path
) -> None:
    settings = with_password(installation, secure_kafka)
    needed = worker_permissions(Settings.model_validate(settings))
    secure_kafka.allow(acls_of(one for one in needed if one.resource != "group"))
    worker = WorkerProcess(tmp_path, settings)
    group = f"falco-streamer.{installation.name}"
    async with oracle(installation.kafka.bootstrap, installation.topics) as seen:
        installation.write(20)
        with worker.shown_on_failure():
            await worker.start()
            said = await heard(worker, "group_failed")
            assert said[0]["cause"] == f"we may not use the consumer group {group}"
            assert (
                said[0]["fix"] == "grant READ on it: `falco-streamer topics acls` prints all that is needed"
            )
            secure_kafka.allow(acls_of(one for one in needed if one.resource == "group"))
            await seen.until(lambda seen: seen.alerts >= 20)
            assert await worker.stop(signal.SIGTERM) == 0
    assert seen.alerts == 20
    troubles = {event["event"] for event in worker.events() if event["level"] in {"warning", "error"}}
    assert troubles == {"group_failed"}, "nothing else is said of it"


async def test_a_route_to_a_topic_that_may_not_be_written_is_refused_until_it_may(
    installation: Installation, secure_kafka: SecureKafka, tmp_path: Path
) -> None:
    """Had it taken effect, the first alert for that topic would have stopped its shard."""
    settings = with_password(installation, secure_kafka)
    routed = settings | {"routes": [{"match": 'source = "syscall"', "topic": "<prefix>.syscalls"}]}
    topic = f"{installation.name}.syscalls"
    await create_topic(secure_kafka.bootstrap, topic, partitions=1)
    before, after = [set(worker_permissions(Settings.model_validate(one))) for one in (settings, routed)]
    secure_kafka.allow([*acls_of(before), acl("topic", topic, "DESCRIBE")])
    worker = WorkerProcess(tmp_path, settings)
    async with oracle(installation.kafka.bootstrap, [*installation.topics, topic]) as seen:
        installation.write(20)
        with worker.shown_on_failure():
            await worker.start()
            await seen.until(lambda seen: seen.alerts >= 20)
            worker.config.write_text(yaml.safe_dump(yaml.safe_load(worker.config.read_text()) | routed))
            (said,) = await heard(worker, "config_refused")
            assert said["cause"] == (
                f"not allowed: WRITE on the topic {topic}; `falco-streamer topics acls` prints all that is needed"
            )
            installation.write(20)
            await seen.until(lambda seen: seen.alerts >= 40)
            assert seen.of(topic) == []
            secure_kafka.allow(acls_of(after - before))
            await heard(worker, "config_reloaded")
            installation.write(20)
            await seen.until(lambda seen: seen.alerts >= 60)
            assert await worker.stop(signal.SIGTERM) == 0
    assert seen.alerts == 60
    assert seen.of(topic)
    assert not worker.said("publish_failed")
