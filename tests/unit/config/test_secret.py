from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError

from streamer.config import Secret, SecretError, Settings, load
from streamer.config.kafka import Kafka

SASL = {"security": {"protocol": "sasl_ssl", "sasl": {"username": "me", "password": "hunter2"}}}


def test_a_secret_prints_as_such_everywhere() -> None:
    settings = Settings.model_validate({"kafka": SASL})
    for text in (repr(settings), str(settings), settings.model_dump_json(), str(settings.model_dump())):
        assert "hunter2" not in text
        assert "(secret)" in text
    assert "hunter2" not in repr(settings.kafka.security.sasl.secret)
    assert settings.kafka.security.sasl.secret.read() == "hunter2"


def test_a_secret_is_not_told_by_an_error_outside_the_loader() -> None:
    with pytest.raises(ValidationError) as caught:
        Kafka.model_validate({"security": {"protocol": "ssl", "sasl": {"password": "hunter2"}}, "shards": 0})
    assert "hunter2" not in str(caught.value)


def test_a_file_is_read_at_each_use(tmp_path: Path) -> None:
    file = tmp_path / "password"
    secret = load(
        None,
        ["kafka.security.protocol=sasl_ssl", "kafka.security.sasl.username=me"],
        {"FALCO_STREAMER__KAFKA__SECURITY__SASL__PASSWORD_FILE": str(file)},
        require=(),
    ).kafka.security.sasl.secret
    for content in ("one", "two\n", "three\r\n"):
        file.write_text(content, newline="")
        assert secret.read() == content.strip()


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (None, "No such file"),
        (b"", "is empty"),
        (b"\n", "is empty"),
        (b"a\nb\n", "more than one line"),
        (b"\xff", "UTF-8"),
    ],
)
def test_a_file_that_holds_no_secret_is_told(content: bytes | None, fault: str, tmp_path: Path) -> None:
    file = tmp_path / "password"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(SecretError, match=fault) as caught:
        Secret("kafka.security.sasl.password", file=file).read()
    assert "`kafka.security.sasl.password_file`" in str(caught.value)


def test_a_secret_may_be_missing_and_may_be_text() -> None:
    assert Secret("x", SecretStr("y")).read() == "y"
    with pytest.raises(SecretError, match="`x` and `x_file` are both missing"):
        Secret("x").read()
