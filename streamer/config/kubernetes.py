"""Settings: which pods are followed, and how."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from streamer.config.section import FilePath, Matching, NotEmpty, Section, TakesCommas, TakesOne, Text, Whole

_DNS_LABEL = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
_LABEL_KEY = r"([A-Za-z0-9.-]+/)?[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?"
_LABEL_VALUE = r"([A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?)?"
_REQUIREMENT = (
    rf"\s*(!?\s*{_LABEL_KEY}"
    rf"|{_LABEL_KEY}\s*(=|==|!=)\s*{_LABEL_VALUE}"
    rf"|{_LABEL_KEY}\s+(in|notin)\s*\(\s*{_LABEL_VALUE}(\s*,\s*{_LABEL_VALUE})*\s*\))\s*"
)

Namespace = Annotated[str, Matching(_DNS_LABEL, "a namespace's name: 1 to 63 of a-z, 0-9 and `-`")]
ContainerName = Annotated[str, Matching(_DNS_LABEL, "a container's name: 1 to 63 of a-z, 0-9 and `-`")]
Selector = Annotated[
    str,
    Matching(
        rf"{_REQUIREMENT}(,{_REQUIREMENT})*", "a label selector such as `app=falco` or `app in (falco)`"
    ),
]
Owner = Annotated[
    str,
    Matching(r"[A-Z][A-Za-z0-9]*/[a-z0-9]([a-z0-9.-]*[a-z0-9])?", "a controller, such as `DaemonSet/falco`"),
]
ServiceAccount = Annotated[
    str, Matching(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?", "a service account's name, such as `falco`")
]


class Kubernetes(Section):
    """The API server, and which pods' logs are followed."""

    kubeconfig: FilePath | None = Field(
        default=None,
        description="Path of a kubeconfig file. Null: the pod's service account inside a cluster, else what "
        "kubectl would take ($KUBECONFIG, ~/.kube/config).",
    )
    context: Text | None = Field(
        default=None, description="The kubeconfig's context to use. Null: its current context."
    )
    namespaces: Annotated[tuple[Namespace, ...], TakesCommas] = Field(
        default=(), description="The namespaces in which Falco runs. Empty: all namespaces."
    )
    selectors: Annotated[tuple[Selector, ...], TakesOne, NotEmpty] = Field(
        default=("app.kubernetes.io/name=falco", "app=falco"),
        json_schema_extra={"minItems": 1},
        description="Label selectors of Falco's pods; a pod that matches any one of them is followed.",
    )
    container: ContainerName = Field(
        default="falco", description="The container, in each of these pods, whose log is followed."
    )
    owners: Annotated[tuple[Owner, ...], TakesCommas] = Field(
        default=(),
        description="Controllers of Falco's pods, such as `DaemonSet/falco`. A pod that matches a selector and is "
        "controlled by none of them is not followed. Empty: any pod that matches is a source of alerts.",
    )
    service_accounts: Annotated[tuple[ServiceAccount, ...], TakesCommas] = Field(
        default=(),
        description="Service accounts of Falco's pods. A pod that matches a selector and runs as none of them is not "
        "followed. Empty: any.",
    )
    start: Literal["beginning", "now"] = Field(
        default="beginning",
        description="Where to begin in the log of a pod that was never followed before: at the first line that "
        "the API still serves, or at the lines written from now on.",
    )
    max_line_bytes: Whole = Field(
        default=786_432,
        ge=4_096,
        le=16_777_216,
        description="The longest line, in bytes, that is read whole; a longer one becomes a dead letter. What the "
        "container wrote counts, not the log API's timestamp before it nor the newline behind it. Must stay 2048 "
        "below max.message.bytes of every topic.",
    )
    max_uncommitted_bytes: Whole = Field(
        default=25_165_824,
        ge=1_048_576,
        le=17_179_869_184,
        description="How many bytes of lines, over all pods and shards of a worker, may be read and not yet committed "
        "to Kafka; they take about twice as much memory. While there are so many nothing more is read, and the pods' "
        "logs are the buffer. One half is divided equally among the shards, so that one that Kafka does not take "
        "keeps no other from reading.",
    )
