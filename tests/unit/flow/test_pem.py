"""Files that are no PEM, as Java and Windows write them."""

from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, pkcs12

from streamer.config.kafka import Kafka
from streamer.flow.pem import conversion
from streamer.sink import Connection, KafkaUnavailable
from tests.testbed.certs import Authority


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stores")
    authority = Authority(folder / "authority")
    (folder / "ca.pem").write_bytes(authority.certificate.read_bytes())
    certificate = x509.load_pem_x509_certificate(authority.certificate.read_bytes())
    (folder / "ca.der").write_bytes(certificate.public_bytes(Encoding.DER))
    encryption = BestAvailableEncryption(b"secret")
    store = pkcs12.serialize_key_and_certificates(b"ca", None, certificate, None, encryption)
    (folder / "ca.p12").write_bytes(store)
    (folder / "ca.jks").write_bytes(bytes.fromhex("feedfeed00000002") + bytes(20))
    (folder / "text").write_text("a password")
    return folder


@pytest.mark.parametrize(
    ("name", "command"),
    [("ca.der", "openssl x509 -inform der"), ("ca.p12", "openssl pkcs12"), ("ca.jks", "keytool")],
)
@pytest.mark.parametrize("keys", [("ca_file",), ("cert_file", "key_file")])
def test_a_store_is_refused_with_the_command_that_converts_it(
    folder: Path, name: str, command: str, keys: tuple[str, ...]
) -> None:
    security = {"protocol": "ssl", **{key: str(folder / name) for key in keys}}
    kafka = Kafka.model_validate({"bootstrap_servers": ["127.0.0.1:1"], "security": security})
    with pytest.raises(KafkaUnavailable) as caught:
        Connection(kafka).arguments("test")
    assert str(folder / name) in str(caught.value)
    assert command in caught.value.fix


@pytest.mark.parametrize("name", ["ca.pem", "text", "missing"])
def test_nothing_is_said_of_other_files(folder: Path, name: str) -> None:
    assert conversion(folder / name) == ""
