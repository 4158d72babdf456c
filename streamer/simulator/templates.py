"""Alerts as Falco's JSON writer prints them, once for each combination, with slots for what changes.

A combination is one rule, one act, one pod. Its alert is rendered into a bytes template in which the
times, the host and the act's changing parts are `%(name)s` slots; an alert is then one formatting.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import orjson

from streamer.simulator.other_rules import DROP_COUNTERS, DROP_RULE
from streamer.simulator.workloads import AUDIT_USERS

if TYPE_CHECKING:
    import random

    from streamer.simulator.rules import Act, Rule
    from streamer.simulator.workloads import Workload

Fields = dict[str, Any]
Version = tuple[int, int]

SLOT = re.compile(rb"@<(\w+)>@")
# A value that is one slot and nothing else, marked as a number, loses its quotes.
NUMBER_SLOT = re.compile(rb'"#<(\w+)>#"')

NAMES_IN_OUTPUT = {
    "user.name": "user",
    "proc.name": "process",
    "proc.pname": "parent",
    "proc.cmdline": "command",
    "proc.tty": "terminal",
    "evt.arg.flags": "exe_flags",
    "container.image.repository": "container_image_repository",
    "container.image.tag": "container_image_tag",
    "k8s.ns.name": "k8s_ns_name",
    "k8s.pod.name": "k8s_pod_name",
}
BASE_NS = 1_763_000_000_000_000_000


def _slots(text: str) -> str:
    return re.sub(r"\{(port|temp|number)\}", r"@<\1>@", text)


def _as_text(value: object) -> str:
    """A field's value as `output` shows it."""
    if value is None:
        return "<NA>"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return f"({','.join(map(str, value))})"
    return str(value).replace("#<", "@<").replace(">#", ">@")


def syscall_fields(rng: random.Random, rule: Rule, act: Act, workload: Workload) -> Fields:
    """The output fields of a syscall rule, in the order of its output."""
    cmdline, target = _slots(act.cmdline), _slots(act.target)
    exepath = _slots(act.exepath)
    process = exepath.rpartition("/")[2][:15]
    ports = re.findall(r"[:]([^:>-]+|@<port>@)(?=->|$)", target)
    drawn: Fields = {
        "evt.type": rule.event,
        "evt.args": f"domain=17(AF_PACKET) type={rng.choice((2, 3))} proto={rng.choice((3, 768))}",
        "evt.res": "SUCCESS",
        "evt.arg.flags": rng.choice(("EXE_WRITABLE|EXE_LOWER_LAYER", "EXE_UPPER_LAYER", "")),
        "user.name": workload.user,
        "user.uid": workload.uid,
        "user.loginuid": 1000 if act.tty else -1,
        "proc.name": process,
        "proc.exe": exepath,
        "proc.exepath": exepath,
        "proc.pname": act.parent,
        "proc.pexe": act.parent,
        "proc.pexepath": f"/usr/bin/{act.parent}",
        "proc.sname": act.parent,
        "proc.cmdline": cmdline,
        "proc.pcmdline": f"{act.parent} {rng.choice(('--foreground', '-c /etc/app.conf', 'start --quiet'))}",
        "proc.tty": act.tty,
        "proc.cwd": rng.choice(("/", "/app/", "/home/jovyan/Müller's notes/")),
        "proc.exe_ino.ctime": BASE_NS + rng.getrandbits(50),
        "proc.exe_ino.mtime": BASE_NS + rng.getrandbits(50),
        # Unsigned in Falco: a file changed after the start of its process gives a number above 2**63.
        "proc.exe_ino.ctime_duration_proc_start": rng.choice(
            (rng.getrandbits(40), 2**64 - rng.getrandbits(40))
        ),
        "proc.is_exe_upper_layer": rng.random() < 0.5,
        "proc.fdusage": round(rng.random() * 100, 6),
        "container.start_ts": BASE_NS + rng.getrandbits(50),
        "fd.name": target or None,
        "fd.sip": "203.0.113.66" if "->203" in target else "10.96.0.1",
        "fd.lport": _port(ports[0]) if ports else None,
        "fd.rport": _port(ports[-1]) if ports else None,
        "fd.type": "ipv4" if ports else "file",
        "fd.l4proto": "tcp" if ports else "<NA>",
    } | act.extra
    for n in range(2, 8):
        drawn[f"proc.aname[{n}]"] = ("containerd-shim", "systemd", None)[min(n - 2, 2)]
    return {name: drawn[name] for name in dict.fromkeys(rule.fields)}


def _port(text: str) -> object:
    return "#<port>#" if "port" in text else int(text)


def container_fields(rng: random.Random, rule: Rule, workload: Workload) -> Fields:
    """The fields of the container plugin; null where the look-up lost its race, or on the host itself."""
    luck = rng.random()
    if luck < 0.06 and "host" in rule.tags:
        return dict.fromkeys(_CONTAINER_FIELDS) | {"container.id": "host", "container.name": "host"}
    values: Fields = dict.fromkeys(_CONTAINER_FIELDS)
    # Seven digits are the combination's, five the host's.
    values["container.id"] = f"{rng.getrandbits(28):07x}@<cid>@"
    if luck < 0.14:
        return values
    revision = f"{rng.getrandbits(36):09x}"
    pod = {
        "Deployment": f"{workload.name}-{revision}-@<pod>@",
        "DaemonSet": f"{workload.name}-@<pod>@",
        "StatefulSet": f"{workload.name}-{rng.randrange(3)}",
    }[workload.kind]
    return values | {
        "container.name": workload.name,
        "container.image.repository": workload.image,
        "container.image.tag": workload.tag,
        "k8s.pod.name": pod,
        "k8s.ns.name": workload.namespace,
    }


_CONTAINER_FIELDS = (
    "container.id",
    "container.name",
    "container.image.repository",
    "container.image.tag",
    "k8s.pod.name",
    "k8s.ns.name",
)


def audit_fields(rng: random.Random, rule: Rule, act: Act, workload: Workload) -> Fields:
    """The output fields of a k8s_audit rule: no container, no k8s.*, lists among the values."""
    name = f"{workload.name}-@<temp>@"
    drawn: Fields = {
        "ka.user.name": rng.choice(AUDIT_USERS),
        "ka.target.name": name,
        "ka.resp.name": name,
        "ka.target.namespace": workload.namespace,
        "ka.target.resource": "deployments" if "Deployment" in rule.name else "pods",
        "ka.target.subresource": "exec",
        "ka.uri.param[command]": act.cmdline,
        "ka.req.pod.containers.image": [
            f"{workload.image}:{workload.tag}",
            "docker.io/istio/proxyv2:1.29.0",
        ],
        "ka.req.pod.initContainers.image": [],
        "ka.req.pod.ephemeralContainers.image": None,
        "ka.response.code": rng.choice(("200", "201")),
        "ka.auth.decision": "allow",
        "ka.auth.reason": 'RBAC: allowed by ClusterRoleBinding "deployers" of ClusterRole "admin" to Group "größe"',
        "jevt.value[/requestObject/spec/volumes]": '[{"name":"host","hostPath":{"path":"/proc","type":""}}]',
    }
    return {field: drawn[field] for field in rule.fields}


def alert_template(
    rng: random.Random, rule: Rule, act: Act, workload: Workload, version: Version, *, message_key: bool
) -> bytes:
    """The template of one combination."""
    if rule.source == "syscall":
        fields = syscall_fields(rng, rule, act, workload) | container_fields(rng, rule, workload)
    else:
        fields = audit_fields(rng, rule, act, workload)
    names = NAMES_IN_OUTPUT | {"fd.name": "connection" if "fd.lport" in fields else "file"}
    pairs = " ".join(f"{names.get(k, _in_output(k))}={_as_text(v)}" for k, v in fields.items())
    # The rules changed their style with 4.0, at the time of Falco 0.40.
    message = f"{rule.message} | {pairs}" if version >= (0, 40) else f"{rule.message} ({pairs})"
    alert: Fields = {
        "hostname": "@<host>@",
        "output": f"@<clock>@: {rule.priority} {message}",
        "output_fields": fields | {"evt.time": "#<ns>#"},
        "priority": rule.priority,
        "rule": rule.name,
        "source": rule.source,
        "tags": list(rule.tags),
        "time": "@<iso>@",
    }
    if message_key and version >= (0, 39):
        alert["message"] = message
    return render(alert, version)


def _in_output(name: str) -> str:
    return re.sub(r"\W+", "_", name).strip("_")


def drop_template(version: Version) -> bytes:
    """Falco's own report of lost events: no tags, no time in `output`, counters as strings."""
    counters: Fields = dict.fromkeys(DROP_COUNTERS, "0")
    counters |= {"n_drops": "@<number>@", "n_drops_buffer_total": "@<number>@", "n_evts": "1@<number>@"}
    counters |= {"n_drops_buffer_open_exit": "@<number>@", "ebpf_enabled": "1"}
    alert: Fields = {
        "hostname": "@<host>@",
        "output": f"{DROP_RULE}. @<number>@ system calls dropped in last second.",
        "output_fields": counters,
        "priority": "Debug",
        "rule": DROP_RULE,
        "source": "internal",
        "time": "@<iso>@",
    }
    return render(alert, version)


def render(alert: Fields, version: Version) -> bytes:
    """The bytes of an alert as a Falco of this version writes them, with slots.

    From 0.39: compact, keys sorted, UTF-8. Before: another writer, which puts the fields at the end,
    behind a space, and escapes what is not ASCII. The host name came with 0.33, source and tags with 0.30.
    """
    alert = dict(alert)
    if version < (0, 33):
        del alert["hostname"]
    if version < (0, 30):
        del alert["source"]
        alert.pop("tags", None)
    if version >= (0, 39):
        data = orjson.dumps(alert, option=orjson.OPT_SORT_KEYS)
    else:
        fields = _ascii(alert.pop("output_fields"))
        data = _ascii(alert)[:-1] + b', "output_fields": ' + fields + b"}"
    data = data.replace(b"%", b"%%")
    return SLOT.sub(rb"%(\1)s", NUMBER_SLOT.sub(rb"%(\1)s", data))


def _ascii(value: Fields) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
