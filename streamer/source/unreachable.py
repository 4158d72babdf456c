"""Why the API server does not answer, and what to do about it."""

from __future__ import annotations

import socket
import ssl
from typing import Final, NamedTuple

import aiohttp

from streamer.flow.failure import one_line
from streamer.flow.proxy import Way


class Trouble(NamedTuple):
    """A cause and its fix."""

    cause: str
    fix: str


_ADDRESS: Final = "check the cluster's `server` in the kubeconfig"
REFUSED: Final = (
    "renew the kubeconfig's credentials; in a pod, the service account's token must be mounted "
    "(automountServiceAccountToken)"
)
"""What to do about 401."""
PLUGIN: Final = (
    "run the plug-in by hand: it must end by itself, without a question, and print an ExecCredential"
)
"""What to do where a kubeconfig's exec plug-in fails."""
PROXY: Final = f"{_ADDRESS}; is there a proxy in between that wants a login?"
"""What to do where something else than an API server answers."""


def trouble(error: Exception, way: Way) -> Trouble:
    """What an exception of aiohttp's means: its own words name sockets and objects in memory."""
    found = _proxy_trouble(error, way) if way.address else None
    return found or _trouble(error)


def _proxy_trouble(error: Exception, way: Way) -> Trouble | None:
    """What is wrong with the proxy; None where it is with what is behind it."""
    fix = f"{way.named_by} names this proxy: is it right?"
    if way.named_by.isidentifier():
        fix += " NO_PROXY lists what is reached without it"
    match error:
        case aiohttp.ClientHttpProxyError(status=407):
            return Trouble(f"the proxy {way.shown} wants a user and a password (407)", fix)
        case aiohttp.ClientHttpProxyError():
            return Trouble(f"the proxy {way.shown} answers {error.status} ({error.message})", fix)
        case (
            aiohttp.ClientConnectorDNSError() | aiohttp.ClientProxyConnectionError(os_error=socket.gaierror())
        ):
            return Trouble(f"the name of the proxy {way.shown} is not known", fix)
        case aiohttp.ClientProxyConnectionError(os_error=OSError() as found):
            refused = isinstance(found, ConnectionRefusedError)
            return Trouble(
                f"the proxy {way.shown}: {'connection refused' if refused else one_line(found)}", fix
            )
    return None


def _trouble(error: Exception) -> Trouble:
    match error:
        case aiohttp.ClientConnectorDNSError():
            return Trouble(f"the name {error.host} is not known", f"{_ADDRESS}, and the DNS")
        case aiohttp.ClientConnectorCertificateError(
            certificate_error=ssl.SSLCertVerificationError() as found
        ):
            return Trouble(
                f"its certificate is not trusted: {found.verify_message.rstrip('.')}",
                "the kubeconfig's certificate-authority must be the one that signed it, and the name its own: "
                "`tls-server-name` sets another than that in `server`; does a proxy in between present its own?",
            )
        case aiohttp.ClientConnectorError(os_error=ConnectionRefusedError()):
            return Trouble(
                "connection refused", f"does it run? Else {_ADDRESS}, network policies and the firewall"
            )
        case aiohttp.ClientConnectorError(os_error=ssl.SSLError() as found):
            return Trouble(f"TLS failed: {one_line(found)}", f"{_ADDRESS}: is it an address for HTTPS?")
        case aiohttp.ClientConnectorError(os_error=OSError() as found):
            cause = one_line(found)
        case _:
            cause = one_line(error)
    return Trouble(cause, f"{_ADDRESS}, network policies and the firewall")
