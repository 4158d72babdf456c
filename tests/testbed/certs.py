"""Certificates: one CA, everything on loopback, valid for a day unless a test wants an expired one."""

from __future__ import annotations

import datetime as dt
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_DAY = dt.timedelta(days=1)
_NAMES = ["localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"]


@dataclass(frozen=True)
class KeyPair:
    """Two PEM files: a private key, and its certificate or public key."""

    key: Path
    public: Path

    def in_one_file(self) -> Path:
        """Both in one PEM file, as Kafka wants them."""
        both = self.public.with_suffix(".both.pem")
        both.write_bytes(self.key.read_bytes() + self.public.read_bytes())
        return both

    def with_passphrase(self, passphrase: str) -> KeyPair:
        """The same pair with the key encrypted."""
        key = load_pem_private_key(self.key.read_bytes(), None)
        locked = self.key.with_suffix(".locked.key")
        encryption = BestAvailableEncryption(passphrase.encode())
        locked.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption))
        return KeyPair(locked, self.public)


class Authority:
    """A CA that lives in a folder; each certificate it signs is written there."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name("falco-streamer test bed")
        builder = _builder(self._name, self._name, self._key.public_key())
        usage = x509.KeyUsage(
            key_cert_sign=True,
            crl_sign=True,
            digital_signature=True,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            encipher_only=False,
            decipher_only=False,
        )
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        builder = builder.add_extension(usage, critical=True)
        # Python 3.13 refuses a chain without these two identifiers.
        self._identifier = x509.SubjectKeyIdentifier.from_public_key(self._key.public_key())
        builder = builder.add_extension(self._identifier, critical=False)
        self.certificate = folder / "ca.crt"
        self.certificate.write_bytes(builder.sign(self._key, hashes.SHA256()).public_bytes(Encoding.PEM))

    def server(
        self,
        name: str,
        *,
        names: Sequence[str] | None = None,
        address: str = "127.0.0.1",
        ends_in: dt.timedelta = _DAY,
    ) -> KeyPair:
        """Sign a serving certificate for an address and the API server's names, or for other names."""
        where = x509.IPAddress(ipaddress.ip_address(address))
        ours: list[x509.GeneralName] = [*map(x509.DNSName, _NAMES), where]
        named = x509.SubjectAlternativeName(ours if names is None else map(x509.DNSName, names))
        return self._sign(name, _name(name), ExtendedKeyUsageOID.SERVER_AUTH, named, ends_in=ends_in)

    def client(self, user: str, groups: Sequence[str] = (), *, ends_in: dt.timedelta = _DAY) -> KeyPair:
        """Sign a client certificate: Kubernetes takes CN for the user and O for the groups."""
        name = f"client-{user}"
        return self._sign(name, _name(user, groups), ExtendedKeyUsageOID.CLIENT_AUTH, ends_in=ends_in)

    def key_pair(self, name: str) -> KeyPair:
        """Write a key pair without a certificate, as the service accounts' tokens are signed with."""
        key = ec.generate_private_key(ec.SECP256R1())
        public = self._folder / f"{name}.pub"
        public.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
        return KeyPair(self._write(name, key), public)

    def _sign(
        self,
        file: str,
        subject: x509.Name,
        usage: x509.ObjectIdentifier,
        names: x509.SubjectAlternativeName | None = None,
        *,
        ends_in: dt.timedelta,
    ) -> KeyPair:
        key = ec.generate_private_key(ec.SECP256R1())
        builder = _builder(subject, self._name, key.public_key(), ends_in)
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        issuer = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(self._identifier)
        builder = builder.add_extension(issuer, critical=False)
        if names:
            builder = builder.add_extension(names, critical=False)
        certificate = self._folder / f"{file}.crt"
        certificate.write_bytes(builder.sign(self._key, hashes.SHA256()).public_bytes(Encoding.PEM))
        return KeyPair(self._write(file, key), certificate)

    def _write(self, file: str, key: ec.EllipticCurvePrivateKey) -> Path:
        path = self._folder / f"{file}.key"
        path.touch(mode=0o600)
        path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return path


def _name(common_name: str, organizations: Sequence[str] = ()) -> x509.Name:
    attributes = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in organizations]
    return x509.Name([*attributes, x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    ends_in: dt.timedelta = _DAY,
) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(min(now, now + ends_in) - dt.timedelta(hours=1))
        .not_valid_after(now + ends_in)
    )
