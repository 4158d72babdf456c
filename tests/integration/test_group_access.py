"""A worker that may not join its group says which permission is missing, and works once it has it."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from streamer.config import Settings
from streamer.simulator import AlertGenerator
from streamer.sink.permissions import worker_permissions
from tests.integration.installation import Installation, installed
from tests.integration.oracle import oracle
from tests.integration.worker import WorkerProcess
from tests.testbed.apiserver import KubeApiServer
from tests.testbed.client import KubeApi
from tests.testbed.kubelet import Kubelet
from tests.testbed.secure_kafka import PASSWORD, USER, SecureKafka, acl

pytestmark = pytest.mark.real


@pytest.fixture
async def installation(
    api_server: KubeApiServer, api: KubeApi, kubelet: Kubelet, secure_kafka: SecureKafka
) -> AsyncIterator[Installation]:
    async with installed(
        api_server, api, kubelet, secure_kafka, pods=2, namespaces=1, generator=AlertGenerator(2)
    ) as made:
        yield made


async def test_a_group_that_may_not_be_joined_is_one_line_with_the_acl_that_is_missing(
    installation: Installation, secure_kafka: SecureKafka, tmp_path: Path
) -> None:
    settings = installation.settings()
    settings["kafka"] |= {
        "bootstrap_servers": [secure_kafka.at("SASL")],
        "security": {
            "protocol": "sasl_ssl",
            "ca_file": str(secure_kafka.trusted),
            "sasl": {"username": USER, "password": PASSWORD},
        },
    }
    needed = worker_permissions(Settings.model_validate(settings))
    acls = {one.resource: acl(one.resource, one.name, one.operation, prefixed=one.prefixed) for one in needed}
    secure_kafka.allow(
        acl(one.resource, one.name, one.operation, prefixed=one.prefixed)
        for one in needed
        if one.resource != "group"
    )
    worker = WorkerProcess(tmp_path, settings)
    group = f"falco-streamer.{installation.name}"
    async with oracle(installation.kafka.bootstrap, installation.topics) as seen:
        installation.write(20)
        with worker.shown_on_failure():
            await worker.start()
            async with asyncio.timeout(40):
                while not (said := worker.said("group_failed")):  # noqa: ASYNC110 - its log is a file
                    await asyncio.sleep(0.05)
            assert said[0]["cause"] == f"we may not use the consumer group {group}"
            assert (
                said[0]["fix"] == "grant READ on it: `falco-streamer topics acls` prints all that is needed"
            )
            secure_kafka.allow([acls["group"]])
            await seen.until(lambda seen: seen.alerts >= 20)
            assert await worker.stop(signal.SIGTERM) == 0
    assert seen.alerts == 20
    troubles = {event["event"] for event in worker.events() if event["level"] in {"warning", "error"}}
    assert troubles == {"group_failed"}, "nothing else is said of it"
