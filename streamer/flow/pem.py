"""Certificates in other forms than PEM, recognised by their first bytes, and the commands that convert them."""

from __future__ import annotations

from pathlib import Path
from shlex import quote
from typing import Final

_JKS: Final = bytes.fromhex("feedfeed")
_HEAD_BYTES: Final = 8


def conversion(path: str | Path) -> str:
    """The command that makes PEM of a Java keystore, a PKCS#12 or a DER file; "" for any other file."""
    try:
        with Path(path).open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except OSError:
        return ""
    given = quote(str(path))
    if head.startswith(_JKS):
        return (
            f"it is a Java keystore: `keytool -importkeystore -srckeystore {given} -destkeystore store.p12 "
            "-deststoretype PKCS12`, then `openssl pkcs12 -in store.p12 -nodes -out store.pem`"
        )
    if head[:2] != b"\x30\x82":  # no ASN.1 sequence of usual length
        return ""
    if head[4:7] == b"\x02\x01\x03":  # its version, which comes first
        return f"it is a PKCS#12 file: `openssl pkcs12 -in {given} -nodes -out store.pem`"
    return f"it is a DER file: `openssl x509 -inform der -in {given} -out certificate.pem`"
