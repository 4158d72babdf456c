"""Who may do what: one bearer token, and rights that can be taken away."""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson

from streamer.simulator.status import ApiError, json_response

if TYPE_CHECKING:
    from aiohttp import web

USER = "system:serviceaccount:falco:falco-streamer"
ANONYMOUS = "system:anonymous"


class Access:
    """`token`: what a request must bear (None: anything). `denied`: (verb, resource) pairs that get 403.

    Verbs and resources are RBAC's: ("list", "pods"), ("watch", "pods"), ("get", "pods/log"). A wrong token
    is a 401 everywhere; who bears none is anonymous, who may ask for the version and the health alone.
    """

    def __init__(self, token: str | None) -> None:
        self.token = token
        self.denied: set[tuple[str, str]] = set()

    def user(self, request: web.Request) -> str:
        """Who asks; 401 for a wrong token."""
        kind, _, token = request.headers.get("Authorization", "").partition(" ")
        if self.token is None or token == self.token:
            return USER
        if kind.lower() == "bearer":
            raise ApiError(401, "Unauthorized")
        return ANONYMOUS

    def check(
        self, request: web.Request, verb: str, resource: str, *, name: str = "", namespace: str | None = None
    ) -> None:
        """403 if the one who asks may not."""
        user = self.user(request)
        if user == USER and (verb, resource) not in self.denied:
            return
        kind = resource.partition("/")[0]
        scope = "at the cluster scope" if namespace is None else f'in the namespace "{namespace}"'
        details = {"kind": kind} | ({"name": name} if name else {})
        subject = f'{kind} "{name}"' if name else kind
        raise ApiError(
            403,
            f'{subject} is forbidden: User "{user}" cannot {verb} resource "{resource}" in API group "" {scope}',
            details=details,
        )

    async def review(self, request: web.Request) -> web.Response:
        """SelfSubjectAccessReview: what `check` would say."""
        self.check(request, "create", "selfsubjectaccessreviews")
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
