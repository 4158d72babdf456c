"""Who may look, and what a browser may do with the page.

Alert text is written by attackers. The policy lets the page run its own files and nothing else: no inline script or
style, no other host, no frame, and no sink that turns text into markup (Trusted Types).
"""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
HEADERS: Final[Mapping[str, str]] = {
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
_SHORTEST_TOKEN: Final = 16


class AccessError(Exception):
    """The way it is to be served is not safe, or a file is not fit; the text says what to change."""


def is_loopback(host: str) -> bool:
    """Whether an address can be reached from this machine alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


@dataclass(frozen=True, slots=True)
class Access:
    """The rule for requests: a bearer token, or else that they were sent to a name of this machine."""

    token_file: Path | None = None

    @staticmethod
    def of(host: str, token_file: Path | None) -> Access:
        """The rule for an address to listen at. Raises `AccessError`."""
        if token_file is None and not is_loopback(host):
            raise AccessError(
                f"{host} can be reached from other machines: give a file with a bearer token (--token-file), "
                "or listen at 127.0.0.1"
            )
        access = Access(token_file)
        access.token()
        return access

    def token(self) -> bytes | None:
        """The token as it stands in the file now, so that it can be renewed. Raises `AccessError`."""
        if self.token_file is None:
            return None
        try:
            token = self.token_file.read_bytes().strip()
        except OSError as error:
            raise AccessError(f"the token file {self.token_file}: {error.strerror}") from error
        if len(token) < _SHORTEST_TOKEN:
            raise AccessError(f"the token in {self.token_file} has fewer than {_SHORTEST_TOKEN} characters")
        return token

    def refusal(self, host: str, authorization: str) -> tuple[int, str] | None:
        """The status and reason with which a request for data is refused; None if it is let in.

        Without a token, a page of another site could have its name resolve to this machine and read what we
        answer: only requests for names of this machine are answered.
        """
        if self.token_file is None:
            name = urlsplit(f"//{host}").hostname or ""
            return None if is_loopback(name) else (403, "this address is served to this machine alone")
        try:
            token = self.token()
        except AccessError as error:
            return 500, str(error)
        kind, _, given = authorization.partition(" ")
        if kind.lower() == "bearer" and token and hmac.compare_digest(given.strip().encode(), token):
            return None
        return 401, "a bearer token is needed"
