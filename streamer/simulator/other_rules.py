"""Rules on the Kubernetes audit log, and Falco's own report of lost events."""

from __future__ import annotations

from streamer.simulator.rules import Act, Rule

AUDIT_CHANGE = (
    "ka.user.name",
    "ka.target.name",
    "ka.target.namespace",
    "ka.target.resource",
    "ka.response.code",
)
AUDIT_POD = (
    "ka.user.name",
    "ka.resp.name",
    "ka.target.resource",
    "ka.target.namespace",
    "ka.req.pod.containers.image",
)


AUDIT_RULES = (
    Rule(
        "Attach/Exec Pod",
        "Notice",
        "Somebody attached to a pod or ran a command in it",
        (
            "ka.user.name",
            "ka.target.name",
            "ka.target.resource",
            "ka.target.namespace",
            "ka.target.subresource",
            "ka.uri.param[command]",
        ),
        ("k8s",),
        (Act("bash", ""), Act("sh -c env | sort", ""), Act("cat /var/run/secrets/token", "")),
        source="k8s_audit",
        weight=2,
    ),
    Rule(
        "Create Privileged Pod",
        "Warning",
        "A pod with a privileged container was created",
        (*AUDIT_POD, "ka.req.pod.initContainers.image", "ka.req.pod.ephemeralContainers.image"),
        ("k8s",),
        (Act("", ""),),
        source="k8s_audit",
    ),
    Rule(
        "Create Sensitive Mount Pod",
        "Warning",
        "A pod with a sensitive mount was created",
        (*AUDIT_POD, "jevt.value[/requestObject/spec/volumes]"),
        ("k8s",),
        (Act("", ""),),
        source="k8s_audit",
    ),
    Rule(
        "K8s Deployment Created",
        "Informational",
        "A deployment was created",
        (*AUDIT_CHANGE, "ka.auth.decision", "ka.auth.reason"),
        ("k8s",),
        (Act("", ""),),
        source="k8s_audit",
    ),
    Rule(
        "K8s ConfigMap Deleted",
        "Informational",
        "A config map was deleted",
        (*AUDIT_CHANGE, "ka.auth.decision", "ka.auth.reason"),
        ("k8s",),
        (Act("", ""),),
        source="k8s_audit",
    ),
)

DROP_RULE = "Falco internal: syscall event drop"
DROP_COUNTERS = (
    "n_drops",
    "n_drops_buffer_clone_fork_exit",
    "n_drops_buffer_close_exit",
    "n_drops_buffer_connect_exit",
    "n_drops_buffer_dir_file_exit",
    "n_drops_buffer_execve_exit",
    "n_drops_buffer_open_exit",
    "n_drops_buffer_other_interest_exit",
    "n_drops_buffer_proc_exit",
    "n_drops_buffer_total",
    "n_drops_bug",
    "n_drops_page_faults",
    "n_drops_scratch_map",
    "n_evts",
)
