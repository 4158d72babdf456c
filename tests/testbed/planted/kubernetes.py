"""What keeps a worker from the API server, or from what it needs there."""

from __future__ import annotations

import base64
import json
import time
import uuid
from collections.abc import Sequence
from functools import partial
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from tests.testbed.apiserver import KubeApiServer
from tests.testbed.certs import Authority
from tests.testbed.client import KubeApi
from tests.testbed.forward_proxy import HttpProxy, SocksProxy
from tests.testbed.planted import Setup, Table
from tests.testbed.planted.servers import html_page, refusing, silent, slamming
from tests.testbed.proxy import BlackHole

KUBERNETES = Table()
VERBS = [("pods", "get"), ("pods", "list"), ("pods", "watch"), ("pods/log", "get")]
_PLUGIN = {"apiVersion": "client.authentication.k8s.io/v1", "interactiveMode": "Never"}


@KUBERNETES.fault("set kubernetes.kubeconfig to yours")
async def no_kubeconfig(setup: Setup) -> None:
    setup.kubernetes["kubeconfig"] = str(setup.folder / "missing")


@KUBERNETES.fault("it has no context `prod`; set kubernetes.context to one of c")
async def no_such_context(setup: Setup) -> None:
    setup.kubernetes["context"] = "prod"


@KUBERNETES.fault("cannot reach the API server: connection refused")
async def nobody_listens(setup: Setup) -> None:
    setup.server["server"] = "https://127.0.0.1:1"


@KUBERNETES.fault("the name kubernetes.invalid is not known")
async def a_name_that_nobody_knows(setup: Setup) -> None:
    setup.server["server"] = "https://kubernetes.invalid:6443"


@KUBERNETES.fault("no connection to https://127.0.0.1:", run="the API server has not answered yet")
async def connections_that_are_never_answered(setup: Setup) -> None:
    setup.server["server"] = f"https://127.0.0.1:{setup.stack.enter_context(silent())}"


@KUBERNETES.fault("no connection to https://127.0.0.1:", run="the API server has not answered yet")
async def packets_that_are_dropped(setup: Setup) -> None:
    setup.server["server"] = f"https://127.0.0.1:{setup.stack.enter_context(BlackHole()).port}"


@KUBERNETES.fault("cannot reach the API server: ")
async def connections_that_are_closed_at_once(setup: Setup) -> None:
    setup.server["server"] = f"https://127.0.0.1:{await slamming(setup.stack)}"


@KUBERNETES.fault("TLS failed")
async def plain_http_where_tls_is_wanted(setup: Setup) -> None:
    setup.server["server"] = f"https://127.0.0.1:{await html_page(setup.stack)}"


@KUBERNETES.fault("an HTML page (a login page?) at http://127.0.0.1:")
async def a_login_page(setup: Setup) -> None:
    setup.server["server"] = f"http://127.0.0.1:{await html_page(setup.stack)}"


@KUBERNETES.fault("503")
async def a_server_that_is_not_ready(setup: Setup) -> None:
    setup.server["server"] = f"http://127.0.0.1:{await refusing(setup.stack, 503)}"


@KUBERNETES.fault("429")
async def a_server_with_too_much_to_do(setup: Setup) -> None:
    setup.server["server"] = f"http://127.0.0.1:{await refusing(setup.stack, 429)}"


@KUBERNETES.fault("its certificate is not trusted: ")
async def another_authority(setup: Setup) -> None:
    setup.server["certificate-authority"] = str(Authority(setup.folder / "other").certificate)


@KUBERNETES.fault("its certificate is not trusted: ")
async def another_name(setup: Setup) -> None:
    setup.server["tls-server-name"] = "teleport.example.test"


@KUBERNETES.fault("does not accept our credentials (401)")
async def an_expired_token(setup: Setup) -> None:
    use(setup, token=service_account_token(setup.servers.api_server, -60))


@KUBERNETES.fault("we come without credentials")
async def no_credentials(setup: Setup) -> None:
    use(setup)


@KUBERNETES.fault("cannot be run")
async def a_plugin_that_is_not_installed(setup: Setup) -> None:
    use(setup, exec={**_PLUGIN, "command": "/nowhere/plugin"})


@KUBERNETES.fault("failed")
async def a_plugin_that_fails(setup: Setup) -> None:
    use(setup, exec={**_PLUGIN, "command": "/bin/sh", "args": ["-c", "echo log in first >&2; exit 1"]})


def _proxy_url(setup: Setup, url: str) -> None:
    setup.server["proxy-url"] = url


@KUBERNETES.fault("the proxy http://127.0.0.1:1: connection refused")
async def a_proxy_that_is_not_there(setup: Setup) -> None:
    _proxy_url(setup, "http://127.0.0.1:1")


@KUBERNETES.fault("the name of the proxy http://proxy.invalid:3128 is not known")
async def a_proxy_that_nobody_knows(setup: Setup) -> None:
    _proxy_url(setup, "http://proxy.invalid:3128")


@KUBERNETES.fault("wants a user and a password (407)")
async def a_proxy_that_wants_a_login(setup: Setup) -> None:
    proxy = await setup.stack.enter_async_context(HttpProxy(login=("u", "p")))
    _proxy_url(setup, proxy.url)


@KUBERNETES.fault("answers 403")
async def a_proxy_that_forbids(setup: Setup) -> None:
    proxy = await setup.stack.enter_async_context(HttpProxy())
    proxy.forbids = True
    _proxy_url(setup, proxy.url)


@KUBERNETES.fault("it does not accept user and password")
async def a_socks_proxy_with_another_password(setup: Setup) -> None:
    proxy = await setup.stack.enter_async_context(SocksProxy(login=("u", "p")))
    _proxy_url(setup, proxy.url_with("u:wrong"))


@KUBERNETES.fault("its rules forbid this connection")
async def a_socks_proxy_that_forbids(setup: Setup) -> None:
    proxy = await setup.stack.enter_async_context(SocksProxy())
    proxy.forbids = True
    _proxy_url(setup, proxy.url)


async def _without(right: tuple[str, str], setup: Setup) -> None:
    user = f"{setup.name}-user"
    namespace = setup.servers.falco.namespace
    await grant(setup.servers.api, namespace, user, [one for one in VERBS if one != right])
    pair = setup.servers.api_server.authority.client(user)
    setup.user = {"client-certificate": str(pair.public), "client-key": str(pair.key)}


for _resource, _verb in VERBS:
    _run = f"no right to {_verb} pods" if _verb in {"list", "watch"} else f"grant verb get on {_resource}"
    KUBERNETES.add(
        f"without the right to {_verb} {_resource}",
        partial(_without, (_resource, _verb)),
        f"we may not {_verb} {_resource}",
        run=_run,
    )


def use(setup: Setup, **user: Any) -> None:
    """Other credentials, and no others."""
    setup.user = user


async def grant(api: KubeApi, namespace: str, user: str, verbs: Sequence[tuple[str, str]]) -> None:
    """Let a user do this in a namespace, and nothing elsewhere."""
    rules = [{"apiGroups": [""], "resources": [what], "verbs": [may]} for what, may in verbs]
    path = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}"
    kind = {"apiVersion": "rbac.authorization.k8s.io/v1", "metadata": {"name": user}}
    await api.create(f"{path}/roles", {**kind, "kind": "Role", "rules": rules})
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": user}
    subject = {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}
    await api.create(
        f"{path}/rolebindings", {**kind, "kind": "RoleBinding", "roleRef": reference, "subjects": [subject]}
    )


def service_account_token(api_server: KubeApiServer, ends_in_seconds: int) -> str:
    """A token as the API server itself signs them."""
    key = load_pem_private_key(
        (api_server.authority.certificate.parent / "service-accounts.key").read_bytes(), None
    )
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    now = int(time.time())
    issuer = "https://kubernetes.default.svc"
    account = {"name": "default", "uid": str(uuid.uuid4())}
    claims = {
        "iss": issuer,
        "aud": [issuer],
        "sub": "system:serviceaccount:default:default",
        "iat": now - 7200,
        "nbf": now - 7200,
        "exp": now + ends_in_seconds,
        "kubernetes.io": {"namespace": "default", "serviceaccount": account},
    }
    parts = [json.dumps(part).encode() for part in ({"alg": "ES256", "typ": "JWT"}, claims)]
    signed = b".".join(base64.urlsafe_b64encode(part).rstrip(b"=") for part in parts)
    r, s = decode_dss_signature(key.sign(signed, ec.ECDSA(hashes.SHA256())))
    signature = base64.urlsafe_b64encode(r.to_bytes(32, "big") + s.to_bytes(32, "big")).rstrip(b"=")
    return b".".join((signed, signature)).decode()
