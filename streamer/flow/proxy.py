"""Which proxy a request goes through: by the rules of Go's `httpproxy`, which kubectl follows.

`HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY`, or the same in small letters; `ALL_PROXY` is not read, and what is on this
machine is never asked for through a proxy that the environment names.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import SplitResult, unquote, urlsplit

import aiohttp

from streamer.flow.socks import Socks, SocksConnector

_PORTS: Final = {"http": 80, "https": 443}
_SOCKS: Final = ("socks5", "socks5h")
"""Both leave names to the proxy, as in Go: behind it there is often another DNS."""
_SOCKS_PORT: Final = 1080
_SCHEMES: Final = (*_PORTS, *_SOCKS)


class ProxyConfigError(ValueError):
    """What names a proxy is not the address of one; the text says where it stands, without a password."""


def is_host_name(name: str) -> bool:
    """Whether DNS can hold a name: between its dots stand 1 to 63 characters. An address is one, too."""
    try:
        name.encode("idna")
    except UnicodeError:
        return False
    return True


@dataclass(frozen=True, slots=True)
class Way:
    """How to get to a server: directly, or through a proxy."""

    address: str = ""
    """The proxy's, perhaps with a user and a password; "" for none."""
    named_by: str = ""
    """What names it: a variable of the environment, or a key."""

    @classmethod
    def named(cls, address: str, named_by: str) -> Way:
        """Through a proxy that was named. Raises ProxyConfigError."""
        try:
            parts = urlsplit(address if "://" in address else f"http://{address}")
            sound = parts.scheme in _SCHEMES and parts.hostname and (parts.port or 1)
            sound = sound and is_host_name(parts.hostname or "")
            # A `#`, `?` or `/` in a password that is not encoded would make a host of what stands before it.
            sound = sound and not (parts.query or parts.fragment) and parts.path in {"", "/"}
        except ValueError:
            sound = None
        if not sound:
            raise ProxyConfigError(
                f"{named_by} is not the address of a proxy: http://, https:// or socks5://, a host and a port"
            )
        return cls(parts.geturl(), named_by)

    @classmethod
    def to(cls, url: str, environment: Mapping[str, str]) -> Way:
        """As the environment has it. Raises ProxyConfigError."""
        target = urlsplit(url)
        for variable in _either(f"{target.scheme}_proxy"):
            if address := environment.get(variable):
                no_proxy = next(filter(None, map(environment.get, _either("no_proxy"))), "")
                return cls() if bypasses(target, no_proxy) else cls.named(address, variable)
        return cls()

    @property
    def shown(self) -> str:
        """The proxy's address without user and password; "" for none."""
        parts = urlsplit(self.address)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}" if self.address else ""

    @property
    def http_proxy(self) -> str | None:
        """What aiohttp gets with each request: it supports HTTP proxies itself."""
        return self.address if self.address and self._parts.scheme not in _SOCKS else None

    def connector(self, **options: Any) -> aiohttp.TCPConnector:
        """What opens connections this way, with aiohttp's own options."""
        if not self.address or self._parts.scheme not in _SOCKS:
            return aiohttp.TCPConnector(**options)
        parts = self._parts
        assert parts.hostname is not None, "it was checked"
        user, password = (unquote(part or "") for part in (parts.username, parts.password))
        return SocksConnector(Socks(parts.hostname, parts.port or _SOCKS_PORT, user, password), **options)

    @property
    def _parts(self) -> SplitResult:
        return urlsplit(self.address)


def _either(name: str) -> tuple[str, str]:
    return name.upper(), name


def bypasses(target: SplitResult, no_proxy: str) -> bool:
    """Whether a request does not go through the environment's proxy, by the value of `NO_PROXY`."""
    host = (target.hostname or "").lower()
    port = target.port or _PORTS.get(target.scheme)
    address = _address(host)
    if host == "localhost" or (address is not None and address.is_loopback):
        return True
    entries = [entry for part in no_proxy.split(",") if (entry := part.strip().lower())]
    return "*" in entries or any(_matches(entry, host, address, port) for entry in entries)


_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def _matches(entry: str, host: str, address: _Address | None, port: int | None) -> bool:
    if "/" in entry:
        try:
            network = ipaddress.ip_network(entry, strict=False)
        except ValueError:
            return False
        return address is not None and address in network
    name, wanted_port = _with_port(entry)
    if wanted_port and wanted_port != str(port):
        return False
    if (wanted := _address(name)) is not None:
        return wanted == address
    if name.startswith("*."):
        name = name[1:]
    if address is not None or not name.strip("."):
        return False
    return host.endswith(name) if name.startswith(".") else host == name or host.endswith(f".{name}")


def _with_port(entry: str) -> tuple[str, str]:
    """`host:port`, `[IPv6]:port`, or either without a port."""
    if entry.startswith("["):
        name, _, rest = entry[1:].partition("]")
        return name, rest.removeprefix(":")
    if entry.count(":") == 1:
        name, _, port = entry.partition(":")
        return name, port
    return entry, ""


def _address(text: str) -> _Address | None:
    try:
        found = ipaddress.ip_address(text)
    except ValueError:
        return None
    return (found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None) or found
