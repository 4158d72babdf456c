"""An identity provider: a token endpoint for the client-credentials flow, and the keys that its tokens are signed with.

Tokens are real JWTs (RS256); Kafka's own validator checks them against `/keys`.
"""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qs, unquote_plus

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

AUDIENCE = "kafka"


class IdentityProvider:
    """Knows some clients by their secrets; a context manager. `life_seconds` is how long a token lives."""

    def __init__(self, clients: Mapping[str, str], *, life_seconds: float = 300) -> None:
        self.clients = dict(clients)
        self.life_seconds = life_seconds
        self.issued = 0
        self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def issuer(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def token_endpoint(self) -> str:
        return f"{self.issuer}/token"

    @property
    def keys(self) -> str:
        """Where Kafka fetches the public keys (JWKS)."""
        return f"{self.issuer}/keys"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def token(self, subject: str, **claims: Any) -> str:
        """A signed token."""
        now = time.time()
        payload = {
            "iss": self.issuer,
            "aud": AUDIENCE,
            "sub": subject,
            "iat": int(now),
            "exp": int(now + self.life_seconds),
            "scope": "kafka",
        } | claims
        signed = b".".join(_encoded(json.dumps(part).encode()) for part in (_HEADER, payload))
        signature = self._key.sign(signed, padding.PKCS1v15(), hashes.SHA256())
        self.issued += 1
        return b".".join((signed, _encoded(signature))).decode()

    def write_token(self, path: Path, subject: str) -> None:
        """Leave a token in a file, as sidecars do."""
        path.write_text(self.token(subject))

    def _answer(self, authorization: str, form: Mapping[str, list[str]]) -> tuple[int, dict[str, Any]]:
        if form.get("grant_type") != ["client_credentials"]:
            return 400, {"error": "unsupported_grant_type"}
        kind, _, encoded = authorization.partition(" ")
        user, _, secret = (
            base64.b64decode(encoded).decode().partition(":") if kind == "Basic" else ("", "", "")
        )
        client = unquote_plus(user)
        if not secret or self.clients.get(client) != unquote_plus(secret):
            return 401, {"error": "invalid_client", "error_description": "the client or its secret is wrong"}
        if form.get("scope", ["kafka"]) != ["kafka"]:
            return 400, {"error": "invalid_scope"}
        return 200, {
            "access_token": self.token(client),
            "token_type": "Bearer",
            "expires_in": self.life_seconds,
        }

    def _public_keys(self) -> dict[str, Any]:
        numbers = self._key.public_key().public_numbers()
        found = {name: getattr(numbers, name) for name in ("n", "e")}
        key = {
            name: _encoded(n.to_bytes((n.bit_length() + 7) // 8, "big")).decode() for name, n in found.items()
        }
        return {"keys": [{"kty": "RSA", "kid": _HEADER["kid"], "use": "sig", "alg": "RS256", **key}]}

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        provider = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._send(200, provider._public_keys())

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"])).decode()
                self._send(*provider._answer(self.headers.get("authorization", ""), parse_qs(body)))

            def log_message(self, *_: Any) -> None:
                """Tests have their own words."""

            def _send(self, status: int, answer: Mapping[str, Any]) -> None:
                body = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        return Handler


_HEADER = {"alg": "RS256", "typ": "JWT", "kid": "test-bed"}


def _encoded(part: bytes) -> bytes:
    return base64.urlsafe_b64encode(part).rstrip(b"=")
