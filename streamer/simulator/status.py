"""The API server's answers that are not objects: `Status`, with the members each error really has."""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson
from aiohttp import web

if TYPE_CHECKING:
    from streamer.simulator.pods import Json

REASONS = {
    400: "BadRequest",
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    405: "MethodNotAllowed",
    410: "Expired",
    415: "UnsupportedMediaType",
    422: "Invalid",
}


class ApiError(Exception):
    """An error answer; `details` as in the Status object."""

    def __init__(self, code: int, message: str, *, details: Json | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.details = details

    def status(self) -> Json:
        """The Status object."""
        status: Json = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": str(self),
            "code": self.code,
        }
        if self.code in REASONS:
            status["reason"] = REASONS[self.code]
        if self.details is not None:
            status["details"] = self.details
        return status

    def response(self) -> web.Response:
        """The HTTP answer."""
        return json_response(self.status(), status=self.code)


def json_response(value: Json, *, status: int = 200) -> web.Response:
    """An object as JSON."""
    return web.Response(body=orjson.dumps(value), status=status, content_type="application/json")


def pod_not_found(name: str) -> ApiError:
    """404 for an unknown pod; `details.kind` is pods/log where only the kubelet does not know it."""
    return ApiError(404, f'pods "{name}" not found', details={"name": name, "kind": "pods"})


def kubelet_has_not(pod: str) -> ApiError:
    """404 for a pod that the API server knows and its kubelet does not (yet, or no longer)."""
    text = f"the server could not find the requested resource ( pods/log {pod})"
    return ApiError(404, text, details={"name": pod, "kind": "pods/log"})


def kubelet_down(
    namespace: str, pod: str, container: str = "falco", *, host: str = "10.0.0.1:10250"
) -> ApiError:
    """500, without a reason, for a kubelet that cannot be reached."""
    url = f"https://{host}/containerLogs/{namespace}/{pod}/{container}"
    return ApiError(500, f'Get "{url}": dial tcp {host}: connect: connection refused')


def invalid_log_options(pod: str, field: str, message: str, kind: str = "FieldValueInvalid") -> ApiError:
    """422 for log parameters that parse, but do not make sense."""
    text = f"{field}: {message}"
    return ApiError(
        422,
        f'PodLogOptions "{pod}" is invalid: {text}',
        details={
            "name": pod,
            "kind": "PodLogOptions",
            "causes": [{"reason": kind, "message": message, "field": field}],
        },
    )
