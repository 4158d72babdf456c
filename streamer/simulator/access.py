"""Who may do what: one bearer token, and rights that can be taken away."""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson

from streamer.simulator.status import ApiError, json_response

if TYPE_CHECKING:
    from aiohttp import web

USER = "system:serviceaccount:falco:falco-streamer"


class Access:
    """`token`: what a request must bear (None: anything). `denied`: (verb, resource) pairs that get 403.

    Verbs and resources are RBAC's: ("list", "pods"), ("watch", "pods"), ("get", "pods/log").
    """

    def __init__(self, token: str | None) -> None:
        self.token = token
        self.denied: set[tuple[str, str]] = set()

    def authenticate(self, request: web.Request) -> None:
        """401 unless the request bears the token."""
        if self.token is not None and request.headers.get("Authorization") != f"Bearer {self.token}":
            raise ApiError(401, "Unauthorized")

    def check(self, verb: str, resource: str, *, name: str = "", namespace: str | None = None) -> None:
        """403 if the right is taken away."""
        if (verb, resource) not in self.denied:
            return
        kind = resource.partition("/")[0]
        scope = "at the cluster scope" if namespace is None else f'in the namespace "{namespace}"'
        details = {"kind": kind} | ({"name": name} if name else {})
        subject = f'{kind} "{name}"' if name else kind
        raise ApiError(
            403,
            f'{subject} is forbidden: User "{USER}" cannot {verb} resource "{resource}" in API group "" {scope}',
            details=details,
        )

    async def review(self, request: web.Request) -> web.Response:
        """SelfSubjectAccessReview: what `check` would say."""
        if request.content_type != "application/json":
            raise ApiError(415, f"the body of the request was in an unknown format: {request.content_type}")
        review = orjson.loads(await request.read())
        wanted = review.get("spec", {}).get("resourceAttributes", {})
        resource = "/".join(filter(None, (wanted.get("resource"), wanted.get("subresource"))))
        allowed = (wanted.get("verb"), resource) not in self.denied
        status = {"allowed": allowed} | ({"reason": "RBAC: allowed by ClusterRoleBinding"} if allowed else {})
        return json_response(
            {
                "apiVersion": "authorization.k8s.io/v1",
                "kind": "SelfSubjectAccessReview",
                "metadata": {},
                "spec": review.get("spec", {}),
                "status": status,
            },
            status=201,
        )
