"""What else a Falco container prints: its own log, statistics, alerts in text mode, damaged lines."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


def log_line(time_ns: int, message: str) -> bytes:
    """A line of Falco's own log, as it stands on stderr."""
    at = dt.datetime.fromtimestamp(time_ns // 1_000_000_000, dt.UTC)
    return f"{at:%a %b %e %H:%M:%S %Y}: {message}".encode()


def startup_lines(time_ns: int, *, hostname: str = "node-1", version: str = "0.44.1") -> list[bytes]:
    """What Falco logs before its first alert."""
    messages = (
        f"Falco version: {version} (x86_64)",
        "Falco initialized with configuration files:",
        "   /etc/falco/falco.yaml | schema validation: ok",
        f"System info: Linux version 6.12.48 (build@{hostname}) #1 SMP PREEMPT_DYNAMIC",
        "Loading plugin 'container' from file /usr/share/falco/plugins/libcontainer.so",
        "Loading rules from:",
        "   /etc/falco/falco_rules.yaml | schema validation: ok",
        "   /etc/falco/rules.d/site.yaml | schema validation: ok",
        "Hostname value has been overridden via environment variable to: " + hostname,
        "The chosen syscall buffer dimension is: 8388608 bytes (8 MBs)",
        "Starting health webserver with threadiness 2, listening on 0.0.0.0:8765",
        "Loaded event sources: syscall",
        "Enabled event sources: syscall",
        "Opening 'syscall' source with modern BPF probe.",
        "One ring buffer every '2' CPUs.",
    )
    return [log_line(time_ns, message) for message in messages]


def exit_lines(
    time_ns: int, by_priority: Mapping[str, int], by_rule: Mapping[str, int], *, drops: int = 0
) -> list[bytes]:
    """What Falco prints when it is asked to end: log, statistics on stdout, drop monitoring on stderr."""
    lines = [
        log_line(time_ns, "SIGINT received, exiting..."),
        b"Events detected: %d" % sum(by_rule.values()),
        b"Rule counts by severity:",
    ]
    for priority, count in by_priority.items():
        shown = "INFO" if priority == "Informational" else priority.upper()
        lines.append(f"   {shown}: {count}".encode())
    lines.append(b"Triggered rules by rule name:")
    lines += (f"   {rule}: {count}".encode() for rule, count in by_rule.items())
    lines.append(b"Syscall event drop monitoring:")
    lines.append(b"   - event drop detected: %d occurrences" % drops)
    lines.append(b"   - num times actions taken: %d" % min(drops, 1))
    return lines


def text_alert(time_ns: int, *, priority: str = "Warning", message: str | None = None) -> bytes:
    """An alert with `json_output: false`, the default of every chart: the rule's name is not in it."""
    second, nanosecond = divmod(time_ns, 1_000_000_000)
    at = dt.datetime.fromtimestamp(second, dt.UTC)
    text = message or (
        "A program without trust opened a sensitive file for reading | file=/etc/shadow evt_type=openat"
        " user=root user_uid=0 process=cat command=cat /etc/shadow container_id=3fa1c0de77ab k8s_pod_name=<NA>"
    )
    return f"{at:%H:%M:%S}.{nanosecond:09d}: {priority} {text}".encode()


def broken(alert: bytes) -> bytes:
    """An alert cut in its middle, as a killed Falco leaves it: it begins like JSON and is none."""
    return alert[: len(alert) * 2 // 3]


def crlf(line: bytes) -> bytes:
    """A line as a container with `tty: true` prints it."""
    return line + b"\r"
