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


PENDING: Final = "`kubectl describe pod`: its events say why it does not start"
"""What to do where a pod does not run."""
_SERVER: Final = "look at the API server's own log, and at the load balancer in front of it"
_NODE: Final = (
    "the API server does not reach the node: is it up, and is its port 10250 open to the control plane?"
)
_KUBELET: Final = {
    "waiting to start": PENDING,
    "tls: internal error": "the node has no certificate to serve with: `kubectl get csr`, then approve its request "
    "(`kubectl certificate approve`)",
    "x509:": "the API server does not trust the node's certificate: its --kubelet-certificate-authority and the "
    "kubelet's serverTLSBootstrap must fit",
    "subresource=proxy": "the node refuses the API server: bind the cluster role system:kubelet-api-admin to the user "
    "of its client certificate",
    "No agent available": "the tunnel from the control plane to the nodes is down: look at konnectivity-agent",
    "dial tcp": _NODE,
    "proxy error from": _NODE,
}
"""What to do where the API server's answer has these words, which are about a node."""


def fix_of(status: int, message: str) -> str:
    """What to do about an error that the API server answers with; "" where it is not known."""
    if status == 401:
        return REFUSED
    for words, fix in _KUBELET.items():
        if words in message:
            return fix
    if status == 403 and "system:anonymous" in message:
        return f"we come without credentials: {REFUSED}"
    if status == 429:
        return "it is overloaded: see its apiserver_flowcontrol_rejected_requests_total"
    return _SERVER if status >= 500 else ""


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
