"""The way to the API server and what we authenticate with: the pod's service account, or a kubeconfig."""

from __future__ import annotations

import asyncio
import base64
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import structlog

from streamer.flow.failure import one_line
from streamer.source.exec_plugin import ExecPlugin, PluginError
from streamer.source.kubeconfig import trouble
from streamer.source.kubernetes_client import (
    ConfigException,
    Configuration,
    kube_config,
    load_incluster_config,
    parse_rfc3339,
)
from streamer.source.unreachable import PLUGIN

_TOKEN_SECONDS: Final = 60.0
"""How old a kubeconfig's token may be before it is looked up again; in-cluster ones have a like rule."""
_RENEW_SECONDS: Final = 5.0
"""Credentials that were refused, or could not be had, are not asked for again within so long."""
_PLUGIN_SECONDS: Final = 60.0
"""For what a kubeconfig's exec plug-in may take: it may ask somebody to log in."""
_ABANDONED_SECONDS: Final = 1.0
_BEFORE_PLUGIN: Final = ("token", "tokenFile", "username", "client-certificate", "client-certificate-data")
"""What a user may have besides an exec plug-in, which is not run then."""
_EXTENSION: Final = "client.authentication.k8s.io/exec"
_NO_WAY: Final = "no way to the Kubernetes API: "

log = structlog.get_logger()

_DROPPED_PROVIDERS: Final = {
    "gcp": "gke-gcloud-auth-plugin (`gcloud container clusters get-credentials`)",
    "azure": "kubelogin (`kubelogin convert-kubeconfig`)",
}


class ApiConfigError(Exception):
    """There is no usable way to the API server in the configuration; the text names the fix."""


class CredentialsError(Exception):
    """There is no token at the moment; the text says why."""


class Credentials:
    """A configuration of `kubernetes.aio`, and its token. Renewing is one task that all callers wait for."""

    def __init__(
        self, kubeconfig: Path | None, context: str | None, *, plugin_seconds: float = _PLUGIN_SECONDS
    ) -> None:
        self.configuration: Any = Configuration()
        self.header = ""
        """The Authorization header's value; "" where there is none."""
        self.impersonation: list[tuple[str, str]] = []
        """Headers that ask to be taken for somebody else."""
        self._kubeconfig = kubeconfig
        self._context = context
        self._plugin_seconds = plugin_seconds
        self._loader: Any = None
        self._renewal: asyncio.Task[None] | None = None
        self._renewed_at = float("-inf")
        self._reread_at = float("-inf")
        self._trouble: CredentialsError | None = None

    def explain(self, error: Exception) -> str:
        """What is wrong with the configuration, where it was not taken for `error`."""
        told = _NO_WAY + trouble(self._kubeconfig, self._context, error)
        return f"{told}; {PLUGIN}" if "exec plug-in" in told and "; " not in told else told

    async def load(self) -> None:
        """Read the configuration. Raises `ApiConfigError`."""
        try:
            await self._load()
        except Exception as error:  # whatever the library makes of a file that is none
            raise ApiConfigError(self.explain(error)) from error
        self._renewed_at = time.monotonic()

    async def fresh(self) -> None:
        """Have `header` up to date. Raises `CredentialsError`."""
        age = time.monotonic() - self._renewed_at
        if self._renewal is not None or (self._trouble is not None and age >= _RENEW_SECONDS):
            await self._renewed(again=True)
        elif self._loader is not None and age >= _TOKEN_SECONDS:
            await self._renewed(again=False)
        if self._trouble is not None:
            raise self._trouble
        try:
            authorization = (await self.configuration.auth_settings()).get("BearerToken")
        except Exception as error:  # a token file that is being replaced
            raise CredentialsError(one_line(error)) from error
        self.header = (authorization and authorization["value"]) or ""

    async def refused(self) -> None:
        """The server does not take them: read all again. Many callers at once cause one renewal."""
        if self._renewal is not None or time.monotonic() - self._reread_at >= _RENEW_SECONDS:
            self._reread_at = time.monotonic()
            await self._renewed(again=True)

    async def close(self) -> None:
        """End what is under way."""
        if self._renewal is not None:
            self._renewal.cancel()
            await asyncio.wait([self._renewal])

    async def _renewed(self, *, again: bool) -> None:
        """Wait for the one renewal. A caller that is cancelled does not end it for the others."""
        if self._renewal is None:
            self._renewal = asyncio.create_task(self._renew(again=again), name="renew credentials")
        await asyncio.shield(self._renewal)

    async def _renew(self, *, again: bool) -> None:
        """Read the token again, or all `again`. What fails leaves everything as it was."""
        try:
            # An OIDC provider can hang as well as a plug-in.
            async with asyncio.timeout(self._plugin_seconds + 2 * _ABANDONED_SECONDS):
                if again or self._loader is None:
                    await self._load()
                else:
                    await self._loader.load_and_set(self.configuration)
            self._trouble = None
        except Exception as error:  # plug-ins and files raise what they like
            cause = one_line(error)
            # The library itself reads a service account's token again, once a minute.
            self._trouble = None if self._loader is None else CredentialsError(cause)
            log.warning("credentials_not_renewed", cause=cause)
        finally:
            self._renewed_at = time.monotonic()
            self._renewal = None

    async def _load(self) -> None:
        if self._kubeconfig is None and self._context is None:
            with suppress(ConfigException):
                load_incluster_config(client_configuration=self.configuration)
                return
        loader: Any = _Loader.of(self._kubeconfig, self._context, self._plugin_seconds)
        await loader.load_and_set(self.configuration)
        self._loader = loader
        self.impersonation = loader.impersonation()


class _Loader(kube_config.KubeConfigLoader):
    """The library's, except for exec plug-ins and the cluster's section, which are read as kubectl reads them.

    The library waits for plug-ins without a limit, and ignores their failure. A plug-in that names no expiry is run
    again only once its credentials are refused.
    """

    plugin_seconds = _PLUGIN_SECONDS
    plugin_has_run = False
    exec_plugin_expiry: Any = None

    @classmethod
    def of(cls, kubeconfig: Path | None, context: str | None, plugin_seconds: float) -> _Loader:
        paths = kube_config.KUBE_CONFIG_DEFAULT_LOCATION if kubeconfig is None else str(kubeconfig)
        merged = kube_config.KubeConfigMerger(paths).config
        made = cls(config_dict=merged, config_base_path=None, active_context=context)
        made.plugin_seconds = plugin_seconds
        made.refuse_dropped_providers()
        return made

    def refuse_dropped_providers(self) -> None:
        """Raise ConfigException for a user whose provider kubectl 1.26 dropped; the library may ignore it."""
        user: Any = self._user
        provider = _plain(user.value.get("auth-provider") or {}) if user is not None else {}
        if instead := _DROPPED_PROVIDERS.get(str(provider.get("name"))):
            raise ConfigException(
                f"its auth-provider {provider['name']} was dropped by kubectl 1.26; use the exec plug-in {instead}"
            )

    async def load_from_exec_plugin(self) -> bool:
        """Take a plug-in's token or certificate; False where the user has others. Raises PluginError that names it."""
        user: Any = self._user
        if any(user.value.get(key) for key in _BEFORE_PLUGIN):
            return False
        expiry = self.exec_plugin_expiry
        expired = expiry is not None and kube_config._is_expired(expiry)  # noqa: SLF001  # as the library does
        if self.plugin_has_run and not expired:
            return True
        plugin = ExecPlugin.of(_plain(user["exec"].value), _folder(user), cluster_info(self._cluster))
        status = await plugin.run(self.plugin_seconds)
        if not status.get("token") and not (
            status.get("clientCertificateData") and status.get("clientKeyData")
        ):
            raise PluginError(f"its exec plug-in {plugin.command} gives neither token nor certificate")
        self._take(status)
        self.plugin_has_run = True
        return True

    def _load_user_token(self) -> bool:
        """Without the newline at the end of a token's file, which no header may have."""
        found = bool(super()._load_user_token())  # type: ignore[no-untyped-call]
        if found:
            self.token = self.token.strip()
        return found

    def _load_cluster_info(self) -> None:
        """Take the address and the TLS, each file relative to the kubeconfig that names it."""
        cluster: Any = self._cluster
        user: Any = self._user
        self.host = str(cluster["server"]).rstrip("/")
        if "://" not in self.host:
            raise ConfigException(f"the cluster's server `{self.host}` has no https:// before it")
        if self.host.startswith("https"):
            self.ssl_ca_cert = _file(cluster, "certificate-authority")
            if "cert_file" not in self.__dict__ and user is not None:  # else it is the plug-in's
                self.cert_file, self.key_file = (
                    _file(user, f"client-{one}") for one in ("certificate", "key")
                )
        self.verify_ssl = not cluster.value.get("insecure-skip-tls-verify")
        self.tls_server_name = cluster.value.get("tls-server-name") or None
        self.proxy = cluster.value.get("proxy-url") or None

    def impersonation(self) -> list[tuple[str, str]]:
        """Headers for whom the user acts (`as` and what belongs to it)."""
        user: Any = self._user
        given = {} if user is None else user.value
        headers = [
            (header, str(given[key]))
            for header, key in (("Impersonate-User", "as"), ("Impersonate-Uid", "as-uid"))
            if given.get(key)
        ]
        headers += [("Impersonate-Group", str(group)) for group in given.get("as-groups") or ()]
        for name, values in (given.get("as-user-extra") or {}).items():
            headers += [(f"Impersonate-Extra-{quote(name, safe='')}", str(value)) for value in values]
        return headers

    def _take(self, status: dict[str, Any]) -> None:
        if status.get("token"):
            self.token = f"Bearer {status['token']}"
        for name, key in (("cert_file", "clientCertificateData"), ("key_file", "clientKeyData")):
            if status.get(key):
                made = kube_config.FileOrData(status, None, data_key_name=key, base64_file_content=False)
                setattr(self, name, made.as_file())
        expiry = status.get("expirationTimestamp")
        self.exec_plugin_expiry = parse_rfc3339(expiry) if expiry else None


def _folder(node: Any) -> Path:
    """The folder of the file that a part of the configuration is from."""
    return Path(node.path).absolute().parent


def _file(node: Any, name: str) -> str | None:
    """The path of what `name` or `name-data` holds."""
    given = {key: value for key, value in node.value.items() if value}
    made = kube_config.FileOrData(given, name, file_base_path=str(_folder(node)))
    path: str | None = made.as_file()
    return path


def _plain(value: Any) -> Any:
    """A part of the configuration without the library's wrapping."""
    return value.value if isinstance(value, kube_config.ConfigNode) else value


def cluster_info(node: Any) -> dict[str, Any]:
    """A cluster's section as exec plug-ins get it with `provideClusterInfo`."""
    cluster = node.value
    found: dict[str, Any] = {"server": cluster.get("server", "")}
    for key in ("tls-server-name", "insecure-skip-tls-verify", "proxy-url", "disable-compression"):
        if cluster.get(key):
            found[key] = cluster[key]
    authority = _file(node, "certificate-authority")
    if authority:
        found["certificate-authority-data"] = base64.b64encode(Path(authority).read_bytes()).decode()
    for extension in cluster.get("extensions") or ():
        if extension.get("name") == _EXTENSION:
            found["config"] = extension.get("extension")
    return found
