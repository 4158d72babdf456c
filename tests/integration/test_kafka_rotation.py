"""Password, certificates, authorities and the ConfigMap change under load, without a restart or a lost alert.

The broker cuts each connection after a second and a half; the first certificate ends after some seconds, the first
password is taken away, and the broker's own certificate comes to be another authority's: whoever held on to what was
before could not go on.
"""

from __future__ import annotations

import asyncio
import dataclasses
import re
import signal
import time
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

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
from tests.testbed.mounted import MountedVolume
from tests.testbed.secure_kafka import SecureKafka, acl

pytestmark = pytest.mark.real

USER = "rotating"
CERTIFICATE_SECONDS = 12
AFTER_SECONDS = 5
"""Longer than any connection lives."""


def secret(password: str, pair: KeyPair, *authorities: Path) -> dict[str, bytes]:
    return {
        "password": password.encode(),
        "tls.crt": pair.public.read_bytes(),
        "tls.key": pair.key.read_bytes(),
        "ca.crt": b"".join(authority.read_bytes() for authority in authorities),
    }


def allowed_settings(
    installation: Installation, secure_kafka: SecureKafka, mounted: MountedVolume
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


async def test_credentials_authorities_and_configuration_are_rotated_under_load(
    installation: Installation, secure_kafka: SecureKafka, tmp_path: Path
) -> None:
    secrets, configmap = MountedVolume(tmp_path / "secret"), MountedVolume(tmp_path / "config")
    ours, theirs = secure_kafka.authority, secure_kafka.other_authority
    secure_kafka.set_password(USER, "first-of-two")
    short_lived = ours.client(f"{USER}-1", ends_in=timedelta(seconds=CERTIFICATE_SECONDS))
    ends_at = time.monotonic() + CERTIFICATE_SECONDS
    secrets.write(secret("first-of-two", short_lived, ours.certificate))
    worker = WorkerProcess(tmp_path, allowed_settings(installation, secure_kafka, secrets))
    settings = yaml.safe_load(worker.config.read_text())
    worker.config = configmap.folder / "streamer.yaml"

    def configure(**changes: Any) -> None:
        configmap.write({worker.config.name: yaml.safe_dump(settings | changes).encode()})

    async with oracle(installation.kafka.bootstrap, installation.topics) as seen:

        async def load(until: Callable[[], bool]) -> None:
            async with asyncio.timeout(40):
                while not until():
                    installation.write(12)
                    await seen.until(lambda seen: seen.alerts >= len(installation.written), seconds=0.02)

        with worker.shown_on_failure():
            configure()
            await worker.start()
            installation.write(6)
            await seen.until(lambda seen: seen.alerts >= 6)
            assert seen.alerts == 6
            begun = await worker.metrics()

            # User and authority: another password, and a certificate by another authority.
            long_lived = theirs.client(f"{USER}-2")
            await asyncio.to_thread(secure_kafka.set_password, USER, "second-of-two")
            secrets.write(secret("second-of-two", long_lived, theirs.certificate, ours.certificate))
            await load(lambda: len(worker.said("kafka_credentials_renewed")) == 1)
            with secure_kafka.certified_by(theirs, "RENEWING"):
                secrets.write(
                    secret("second-of-two", long_lived, theirs.certificate)
                )  # the old authority is gone
                await load(lambda: len(worker.said("kafka_credentials_renewed")) == 2)

                configure(log={"format": "json", "level": "debug"}, records={"annotate": True})
                await load(lambda: bool(worker.said("config_reloaded")))
                annotated_from = len(installation.written)
                await load(lambda: len(installation.written) >= annotated_from + 300)
                configure(records={"annotate": "perhaps"})
                await load(lambda: bool(worker.said("config_refused")))
                assert (await worker.metrics())["falco_streamer_config_last_reload_successful"] == 0
                assert "[-] configuration: the file is refused" in await worker.get("readyz?verbose")
                configure()
                await load(lambda: len(worker.said("config_reloaded")) == 2)
                await load(lambda: time.monotonic() > ends_at + AFTER_SECONDS)
                await seen.until(lambda seen: seen.alerts >= len(installation.written))
            assert "[+] configuration" in await worker.get("readyz?verbose")
            shown = await worker.metrics()
            assert await worker.stop(signal.SIGTERM) == 0
        await seen.read_to_end()
    annotated = [record for record in seen.records if b',"falco_streamer":{' in record.value]
    assert len(annotated) >= 300
    check_records(installation, [unannotated(record) for record in seen.records])

    # One process from beginning to end; it says what it took over, and nothing of what is secret.
    assert len(worker.said("worker_started")) == 1
    assert shown["process_start_time_seconds"] == begun["process_start_time_seconds"]
    moved = {name: value - begun.get(name, 0) for name, value in shown.items()}
    assert moved['falco_streamer_config_reloads_total{result="taken"}'] == 2
    assert moved['falco_streamer_config_reloads_total{result="refused"}'] == 1
    assert moved["falco_streamer_config_last_reload_success_timestamp_seconds"] > 0
    assert shown["falco_streamer_config_last_reload_successful"] == 1
    assert moved['falco_streamer_kafka_credential_renewals_total{result="taken"}'] == 2
    first, second = worker.said("kafka_credentials_renewed")
    assert (first["changed"], second["changed"]) == (["certificates", "password"], ["certificates"])
    assert b"-of-two" not in worker.log.read_bytes()
    stopped = worker.events()[-1]
    assert stopped["event"] == "worker_stopped"
    assert stopped["balanced"]
    assert stopped["published"] == len(installation.written)


def unannotated(record: Any) -> Any:
    """The record as it would be without the object that `records.annotate` adds."""
    return dataclasses.replace(record, value=re.sub(rb',"falco_streamer":\{[^}]*\}\}$', b"}", record.value))


async def test_a_worker_with_a_wrong_password_says_so_and_goes_on_when_it_is_mended(
    installation: Installation, secure_kafka: SecureKafka, tmp_path: Path
) -> None:
    mounted = MountedVolume(tmp_path / "secret")
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
