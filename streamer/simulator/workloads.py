"""What runs in the simulated cluster: the workloads whose processes Falco reports."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Workload:
    """A workload: how its pods are named depends on its kind."""

    namespace: str
    name: str
    image: str
    tag: str
    kind: Literal["Deployment", "StatefulSet", "DaemonSet"] = "Deployment"
    user: str = "root"
    uid: int = 0


WORKLOADS = (
    Workload(
        "monitoring",
        "kube-state-metrics",
        "registry.k8s.io/kube-state-metrics/kube-state-metrics",
        "v2.17.0",
        user="nobody",
        uid=65534,
    ),
    Workload(
        "argocd",
        "argocd-application-controller",
        "quay.io/argoproj/argocd",
        "v3.2.0",
        "StatefulSet",
        "argocd",
        999,
    ),
    Workload("logging", "fluent-bit", "cr.fluentbit.io/fluent/fluent-bit", "5.0.1", "DaemonSet"),
    Workload("shop", "checkout", "harbor.example.com/shop/checkout", "2026.11.3", user="app", uid=1000),
    Workload("shop", "cart-redis", "docker.io/library/redis", "8.2-alpine", "StatefulSet", "redis", 999),
    Workload(
        "shop", "catalogue-postgres", "docker.io/library/postgres", "18.1", "StatefulSet", "postgres", 999
    ),
    Workload(
        "payments", "ledger-api", "harbor.example.com/payments/ledger-api", "1.44.0", user="1001", uid=1001
    ),
    Workload(
        "ci",
        "gitlab-runner",
        "registry.gitlab.com/gitlab-org/gitlab-runner",
        "alpine-v18.6.0",
        user="gitlab-runner",
        uid=100,
    ),
    Workload("ci", "build-agent", "docker.io/library/debian", "trixie-slim"),
    Workload(
        "ingress-nginx",
        "ingress-nginx-controller",
        "registry.k8s.io/ingress-nginx/controller",
        "v1.14.0",
        user="www-data",
        uid=101,
    ),
    Workload("metallb-system", "speaker", "quay.io/metallb/speaker", "v0.15.2", "DaemonSet"),
    Workload("data", "spark-worker", "docker.io/apache/spark", "4.0.1", "StatefulSet", "spark", 185),
    Workload("data", "jupyter-hub", "quay.io/jupyter/scipy-notebook", "2026-10-20", user="jovyan", uid=1000),
    Workload(
        "kube-system", "coredns", "registry.k8s.io/coredns/coredns", "v1.13.1", user="<NA>", uid=4294967295
    ),
)

AUDIT_USERS = (
    "system:serviceaccount:argocd:argocd-application-controller",
    "system:serviceaccount:ci:gitlab-runner",
    "oidc:anna.müller@example.com",
    "kubernetes-admin",
)
