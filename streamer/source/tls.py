"""TLS to the API server, by its files as they are: a cluster that renews its authority needs no restart of ours."""

from __future__ import annotations

import ssl
from typing import Any

import structlog

from streamer.config.stamp import Stamp, stamp_of
from streamer.flow.failure import one_line
from streamer.flow.pem import conversion
from streamer.source.kubernetes_client import ApiClient

log = structlog.get_logger()


class ApiTls:
    """What new connections are opened with; open ones stay. `configuration` is that of `kubernetes.aio`.

    Making it raises OSError or ValueError where the files cannot be used.
    """

    def __init__(self, configuration: Any) -> None:
        self._configuration = configuration
        self._stamp = self._stamp_now()
        self._context = self._make()

    def context(self) -> ssl.SSLContext:
        """The same object until a file changes: connections are shared among requests that have the same one."""
        stamp = self._stamp_now()
        if stamp is not None and stamp != self._stamp:
            try:
                self._context, self._stamp = self._make(), stamp
            except (
                OSError,
                ValueError,
            ) as error:  # half of it is written, perhaps: the old ones may still do
                log.warning("credentials_not_renewed", cause=one_line(error))
            else:
                log.info("api_certificates_renewed")
        return self._context

    def _make(self) -> ssl.SSLContext:
        if (authority := self._configuration.ssl_ca_cert) is not None:
            try:
                ssl.create_default_context(cafile=authority)
            except ssl.SSLError as error:
                fix = conversion(authority) or "it must be a PEM file with certificates"
                raise ValueError(f"certificate-authority {authority} cannot be used; {fix}") from error
        made: ssl.SSLContext = ApiClient(self._configuration).rest_client.ssl_context
        return made

    def _stamp_now(self) -> Stamp | None:
        given = self._configuration
        return stamp_of((given.ssl_ca_cert, given.cert_file, given.key_file))
