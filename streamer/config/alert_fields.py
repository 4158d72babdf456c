"""Which fields of Falco's alerts say what happened to whom, and which differ each time without meaning anything."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

OTHER: Final = "other"
"""Stands for every source that has no entry of its own."""

# Names as Falco 0.45 and its plugins' own tables of fields have them. Where a rule does not print a field, it does
# not count: nothing here is required of an alert.
GROUP_FIELDS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "syscall": ("k8s.ns.name", "k8s.pod.name", "container.id", "proc.name", "user.name"),
        # Not the object's name: controllers make up a new one for each pod. It tells variants apart.
        "k8s_audit": ("ka.user.name", "ka.target.namespace", "ka.target.resource"),
        "aws_cloudtrail": ("ct.user", "ct.user.accountid", "ct.region", "ct.name"),
        "gcp_auditlog": ("gcp.user", "gcp.methodName", "json.value[/resource/labels/project_id]"),
        "okta": ("okta.actor.name", "okta.actor.alternateid", "okta.evt.type"),
        "github": ("github.user", "github.org", "github.repo", "github.repo.name", "github.type"),
        OTHER: (),
    }
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
    "ct.time",
    "okta.published",
    "*duration*",
    # Numbers given out anew each time. What they stand for is in the names beside them.
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
    "ka.auditid",
    "ct.id",
    "ct.requestid",
    "ct.sharedeventid",
    "ct.addendum.original*",
    "ct.response.reservationid",
    "okta.transaction.id",
    # Counters and levels.
    "evt.count*",
    "proc.nthreads",
    "proc.nchilds",
    "proc.fdusage",
    "proc.fdopencount",
    "proc.vmsize",
    "proc.vmrss",
    "proc.vmswap",
    "proc.pfmajor",
    "proc.pfminor",
    "thread.cpu*",
    "thread.exectime",
    "thread.totexectime",
    "thread.vmsize*",
    "thread.vmrss*",
    "thread.pf*",
    "okta.mfa.*.countlast*",
)
