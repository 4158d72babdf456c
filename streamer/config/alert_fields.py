"""Which fields of Falco's alerts say what happened to whom, and which differ each time without meaning anything."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

OTHER: Final = "other"
"""Stands for every source that has no entry of its own."""


class KnownSource(NamedTuple):
    """What the alerts of one of Falco's event sources look like.

    Where a rule does not print a field, it does not count: nothing here is required of an alert.
    """

    plugin: str
    """Whose own table of fields has the names, and the version that was read."""
    group: tuple[str, ...]
    """Who did what, where: what makes a group."""
    workload: tuple[str, ...]
    """What has a limit of its own for each rule; the first one that an alert has is the tenant."""
    volatile: tuple[str, ...] = ()
    """What differs each time without meaning anything."""


# The sources of the plugin registry (falcosecurity/plugins, registry.yaml of August 2026) whose plugins define fields
# of their own. kafka, collector, journal, the dummies and the json plugin carry what somebody else puts in, and what
# edera and coding_agent print is not published: those are sources that nobody knows.
SOURCES: Final[Mapping[str, KnownSource]] = MappingProxyType(
    {
        "syscall": KnownSource(
            "Falco 0.45",
            ("k8s.ns.name", "k8s.pod.name", "container.id", "proc.name", "user.name"),
            ("k8s.ns.name", "k8s.pod.name"),
        ),
        "k8s_audit": KnownSource(
            "k8saudit 0.18.0 (also k8saudit-eks, -gke, -aks, -ovh)",
            # Not the object's name: controllers make up a new one for each pod. It distinguishes variants.
            ("ka.user.name", "ka.target.namespace", "ka.target.resource"),
            ("ka.target.namespace", "ka.user.name"),
            ("ka.auditid",),
        ),
        "aws_cloudtrail": KnownSource(
            "cloudtrail 0.17.1",
            ("ct.user", "ct.user.accountid", "ct.region", "ct.name"),
            ("ct.user.accountid", "ct.user"),
            (
                "ct.time",
                "ct.id",
                "ct.requestid",
                "ct.sharedeventid",
                "ct.addendum.original*",
                "ct.response.reservationid",
            ),
        ),
        "gcp_auditlog": KnownSource(
            "gcpaudit 0.8.1",
            ("gcp.user", "gcp.projectId", "gcp.methodName", "json.value[/resource/labels/project_id]"),
            ("gcp.projectId", "gcp.user"),
            ("gcp.time",),
        ),
        "okta": KnownSource(
            "okta 0.12.0",
            ("okta.actor.name", "okta.actor.alternateid", "okta.evt.type"),
            ("okta.actor.alternateid", "okta.actor.name"),
            ("okta.published", "okta.transaction.id", "okta.mfa.*.countlast*"),
        ),
        "github": KnownSource(
            "github 0.10.1",
            ("github.user", "github.org", "github.repo", "github.repo.name", "github.type"),
            ("github.org", "github.repo.name"),
        ),
        "gitlab": KnownSource(
            "gitlab 0.1.0",
            ("gitlab.author_name", "gitlab.entity_path", "gitlab.event_type", "gitlab.op_type"),
            ("gitlab.entity_path", "gitlab.author_name"),
            ("gitlab.event_id", "gitlab.created_at"),
        ),
        "keycloak": KnownSource(
            "keycloak 0.1.0",
            (
                "keycloak.realmID",
                "keycloak.user.userID",
                "keycloak.user.eventType",
                "keycloak.admin.authDetails.userID",
                "keycloak.admin.operationType",
                "keycloak.admin.resourceType",
            ),
            ("keycloak.realmID", "keycloak.user.userID", "keycloak.admin.authDetails.userID"),
            ("keycloak.eventID",),
        ),
        "nomad": KnownSource(
            "nomad 0.2.0",
            ("nomad.alloc.namespace", "nomad.alloc.jobID", "nomad.event.topic", "nomad.event.type"),
            ("nomad.alloc.namespace", "nomad.alloc.jobID"),
            ("nomad.index",),
        ),
        "docker": KnownSource(
            "docker 0.4.0",
            ("docker.attributes.name", "docker.from", "docker.type", "docker.action"),
            ("docker.stack.namespace", "docker.attributes.name"),
        ),
        "salesforce": KnownSource(
            "salesforce 0.1.0",
            ("salesforce.username", "salesforce.eventtype", "salesforce.operation"),
            ("salesforce.username",),
            (
                "salesforce.eventidentifier",
                "salesforce.eventuuid",
                "salesforce.eventdate",
                "salesforce.createddate",
                "salesforce.requestidentifier",
                "salesforce.relatedeventidentifier",
                "salesforce.loginhistoryid",
                "salesforce.evaluationtime",
            ),
        ),
        "box": KnownSource(
            "box 0.1.0",
            ("box.userlogin", "box.created_by_login", "box.eventtype"),
            ("box.created_by_login", "box.userlogin"),
            ("box.eventid", "box.timestamp"),
        ),
        "seccompagent": KnownSource(
            "seccompagent 0.2.0",
            (
                "seccompagent.k8s.namespace",
                "seccompagent.k8s.pod",
                "seccompagent.k8s.container",
                "seccompagent.syscall",
            ),
            ("seccompagent.k8s.namespace", "seccompagent.k8s.pod"),
            ("seccompagent.id", "seccompagent.pid", "seccompagent.k8s.pid*"),
        ),
        "syslogsrv": KnownSource(
            "syslogsrv 0.0.1",
            ("syslogsrv.hostname", "syslogsrv.facility"),
            ("syslogsrv.hostname",),
            ("syslogsrv.timestamp",),
        ),
        "dnscollector": KnownSource(
            "dnscollector 0.0.1",
            ("dnscollector.network.query-ip", "dnscollector.dns.qtype", "dnscollector.dns.rcode"),
            ("dnscollector.network.query-ip",),
            ("dnscollector.network.query-port", "dnscollector.dnstap.latency"),
        ),
        "awselb": KnownSource(
            "awselb, its source of July 2025",
            ("awselb.name", "awselb.client_ip", "awselb.target_group_arn"),
            ("awselb.name", "awselb.client_ip"),
            (
                "awselb.timestamp",
                "awselb.request_creation_time",
                "awselb.*_processing_time",
                "awselb.trace_id",
                "awselb.conn_trace_id",
                "awselb.client_port",
            ),
        ),
        "nginx": KnownSource(
            "nginx 1.5.0",
            ("nginx.remote_addr", "nginx.remote_user", "nginx.method"),
            ("nginx.remote_addr",),
            ("nginx.time_local",),
        ),
    }
)

GROUP_FIELDS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {name: source.group for name, source in SOURCES.items()} | {OTHER: ()}
)
WORKLOAD_FIELDS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {name: ("rule", *source.workload) for name, source in SOURCES.items()} | {OTHER: ("rule",)}
)

VOLATILE_FIELDS: Final = (
    # Times and durations.
    "evt.time*",
    "evt.rawtime*",
    "evt.reltime*",
    "evt.datetime*",
    "evt.outputtime*",
    "evt.deltatime*",
    "evt.latency*",
    "evt.wait_latency",
    "jevt.time*",
    "jevt.rawtime*",
    "json.time*",
    "json.rawtime*",
    "proc.pid.ts",
    "proc.ppid.ts",
    "container.start_ts",
    "*duration*",
    # Numbers that are assigned again each time. The fields with names have what they stand for.
    "evt.num",
    "evt.cpu",
    "evt.rawres",
    "proc.pid",
    "proc.ppid",
    "proc.vpid",
    "proc.pvpid",
    "proc.apid*",
    "proc.sid",
    "proc.pgid",
    "proc.vpgid",
    "thread.tid",
    "thread.vtid",
    "fd.num",
    "fd.ino",
    "fd.uid",
    "fd.cport",
    "fd.lport",
    # Counters and levels.
    "evt.count*",
    "proc.nthreads",
    "proc.nchilds",
    "proc.fdusage",
    "proc.fdopencount",
    "proc.vmsize",
    "proc.vmrss",
    "proc.vmswap",
    "thread.cpu*",
    "thread.exectime",
    "thread.totexectime",
    "thread.vmsize*",
    "thread.vmrss*",
    "thread.pf*",
    # Of single sources.
    *dict.fromkeys(name for source in SOURCES.values() for name in source.volatile),
)
