"""Password, client certificate and authorities change under load, without a restart and without a lost alert.

The broker cuts each connection after a second and a half; the first certificate ends after some seconds, and the
first password is taken away: whoever held on to them could not go on.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from streamer.config import Settings
from streamer.simulator import AlertGenerator
from streamer.sink.permissions import worker_permissions
from tests.integration.installation import Installation, installed
from tests.integration.oracle import oracle
from tests.integration.test_main_job import check_records
from tests.integration.worker import WorkerProcess
from tests.testbed.apiserver import KubeApiServer
from tests.testbed.certs import KeyPair
from tests.testbed.client import KubeApi
from tests.testbed.kubelet import Kubelet
from tests.testbed.secure_kafka import SecureKafka, acl

pytestmark = pytest.mark.real

USER = "rotating"
CERTIFICATE_SECONDS = 12
AFTER_SECONDS = 5
"""Longer than any connection lives."""


class MountedSecret:
    """A folder as the kubelet mounts a Secret: every file is a link through `..data`, which is swapped as a whole."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._turn = 0

    def write(self, files: dict[str, bytes]) -> None:
        self._turn += 1
        version = self.folder / f"..version-{self._turn}"
        version.mkdir(parents=True)
        for name, content in files.items():
            (version / name).write_bytes(content)
            if not (self.folder / name).is_symlink():
                (self.folder / name).symlink_to(f"..data/{name}")
        new = self.folder / "..data_tmp"
        new.symlink_to(version.name)
        new.replace(self.folder / "..data")


def secret(password: str, pair: KeyPair, *authorities: Path) -> dict[str, bytes]:
    return {
        "password": password.encode(),
        "tls.crt": pair.public.read_bytes(),
        "tls.key": pair.key.read_bytes(),
        "ca.crt": b"".join(authority.read_bytes() for authority in authorities),
    }


def allowed_settings(
    installation: Installation, secure_kafka: SecureKafka, mounted: MountedSecret
) -> dict[str, Any]:
    """A worker's settings with all credentials in that secret; what they need is allowed, and nothing else."""
    settings = installation.settings()
    settings["kafka"] |= {
        "bootstrap_servers": [secure_kafka.at("RENEWING")],
        "security": {
            "protocol": "sasl_ssl",
            "ca_file": str(mounted.folder / "ca.crt"),
            "cert_file": str(mounted.folder / "tls.crt"),
            "key_file": str(mounted.folder / "tls.key"),
            "sasl": {"username": USER, "password_file": str(mounted.folder / "password")},
        },
    }
    needed = worker_permissions(Settings.model_validate(settings))
    secure_kafka.allow(
        acl(one.resource, one.name, one.operation, USER, prefixed=one.prefixed) for one in needed
    )
    return settings


@pytest.fixture
async def installation(
    api_server: KubeApiServer, api: KubeApi, kubelet: Kubelet, secure_kafka: SecureKafka
) -> AsyncIterator[Installation]:
    async with installed(
        api_server, api, kubelet, secure_kafka, pods=6, namespaces=2, generator=AlertGenerator(11)
    ) as made:
        yield made


async def test_credentials_are_rotated_under_load(
    installation: Installation, secure_kafka: SecureKafka, tmp_path: Path
) -> None:
    mounted = MountedSecret(tmp_path / "secret")
    ours, theirs = secure_kafka.authority, secure_kafka.other_authority
    secure_kafka.set_password(USER, "first")
    short_lived = ours.client(f"{USER}-1", ends_in=timedelta(seconds=CERTIFICATE_SECONDS))
    ends_at = time.monotonic() + CERTIFICATE_SECONDS
    mounted.write(secret("first", short_lived, ours.certificate))

    worker = WorkerProcess(tmp_path, allowed_settings(installation, secure_kafka, mounted))

    async with oracle(installation.kafka.bootstrap, installation.topics) as seen:

        async def load(until: float) -> None:
            while time.monotonic() < until:
                installation.write(6)
                await seen.until(lambda seen: seen.alerts >= len(installation.written), seconds=0.02)

        with worker.shown_on_failure():
            await worker.start()
            installation.write(6)
            await seen.until(lambda seen: seen.alerts >= 6)
            assert seen.alerts == 6
            await load(time.monotonic() + 2)

            long_lived = theirs.client(f"{USER}-2")
            await asyncio.to_thread(secure_kafka.set_password, USER, "second")
            mounted.write(secret("second", long_lived, theirs.certificate, ours.certificate))
            await load(ends_at + AFTER_SECONDS)

            await seen.until(lambda seen: seen.alerts >= len(installation.written))
            assert await worker.stop(signal.SIGTERM) == 0
        await seen.read_to_end()
        check_records(installation, seen.records)
    stopped = worker.events()[-1]
    assert stopped["event"] == "worker_stopped"
    assert stopped["balanced"]
    assert stopped["published"] == len(installation.written)


async def test_a_worker_with_a_wrong_password_says_so_and_goes_on_when_it_is_mended(
    installation: Installation, secure_kafka: SecureKafka, tmp_path: Path
) -> None:
    mounted = MountedSecret(tmp_path / "secret")
    pair, authority = secure_kafka.authority.client(USER), secure_kafka.authority.certificate
    secure_kafka.set_password(USER, "right")
    mounted.write(secret("wrong!", pair, authority))
    worker = WorkerProcess(tmp_path, allowed_settings(installation, secure_kafka, mounted))
    async with oracle(installation.kafka.bootstrap, installation.topics) as seen:
        installation.write(60)
        with worker.shown_on_failure():
            await worker.start()
            async with asyncio.timeout(30):
                while not (said := worker.said("kafka_unavailable")):  # noqa: ASYNC110 - its log is a file
                    await asyncio.sleep(0.05)
            assert said[0]["cause"].startswith(
                f"cannot reach {secure_kafka.at('RENEWING')}: authentication failed: "
            )
            assert said[0]["fix"] == "check the user and password in kafka.security.sasl"
            assert b"wrong!" not in worker.log.read_bytes()
            mounted.write(secret("right", pair, authority))
            await seen.until(lambda seen: seen.alerts >= 60)
            assert await worker.stop(signal.SIGTERM) == 0
        await seen.read_to_end()
        check_records(installation, seen.records)
