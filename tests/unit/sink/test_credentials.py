"""Credentials as their files are at each moment: what has changed is said once, and what cannot be used as well."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from streamer.config.security import Security
from streamer.sink import KafkaUnavailable
from streamer.sink.credentials import Credentials
from streamer.telemetry.metrics import REGISTRY
from tests.testbed.certs import Authority, KeyPair
from tests.testbed.mounted import MountedVolume


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


def files(password: str, pair: KeyPair, authority: Authority) -> dict[str, bytes]:
    return {
        "password": password.encode(),
        "tls.crt": pair.public.read_bytes(),
        "tls.key": pair.key.read_bytes(),
        "ca.crt": authority.certificate.read_bytes(),
    }


def credentials(folder: Path) -> Credentials:
    given = {
        "protocol": "sasl_ssl",
        "ca_file": folder / "ca.crt",
        "cert_file": folder / "tls.crt",
        "key_file": folder / "tls.key",
        "sasl": {"username": "worker", "password_file": folder / "password"},
    }
    return Credentials(Security.model_validate(given))


def renewals(result: str = "taken") -> float:
    name = "falco_streamer_kafka_credential_renewals_total"
    return REGISTRY.get_sample_value(name, {"result": result}) or 0


def test_what_has_changed_is_taken_and_said_once(tmp_path: Path, authority: Authority) -> None:
    volume, before = MountedVolume(tmp_path), renewals()
    volume.write(files("one", authority.client("a"), authority))
    ours = credentials(tmp_path)
    read: list[dict[str, Any]] = []
    with capture_logs() as told:
        read += [ours.read(), ours.read()]
        volume.write(files("two", authority.client("a"), authority))
        read += [ours.read(), ours.read()]
    assert [one["sasl_plain_password"] for one in read] == ["one", "one", "two", "two"]
    first, again, renewed, still = [one["ssl_context"] for one in read]
    assert first is again is not renewed is still
    assert [(one["event"], one["changed"]) for one in told] == [
        ("kafka_credentials_renewed", ["certificates", "password"])
    ]
    assert renewals() - before == 1


def test_a_pair_that_does_not_fit_is_refused_and_the_next_one_that_does_is_a_change(
    tmp_path: Path, authority: Authority
) -> None:
    volume, before = MountedVolume(tmp_path), renewals()
    pair, other = authority.client("a"), authority.client("b")
    volume.write(files("one", pair, authority))
    ours = credentials(tmp_path)
    ours.read()
    volume.write(files("one", other, authority) | {"tls.key": pair.key.read_bytes()})
    with pytest.raises(KafkaUnavailable, match="are not of one pair; renew both together"):
        ours.read()
    assert renewals() == before
    volume.write(files("one", other, authority))
    with capture_logs() as told:
        ours.read()
    assert [one["changed"] for one in told] == [["certificates"]]
    assert renewals() - before == 1
