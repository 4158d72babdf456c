"""The rules that the simulated Falco has, and what its processes do to meet them.

Names, priorities, tags and output fields are those of falco-rules 5.1 and of the k8saudit plugin's
rules; the sentences are ours. An act is one process doing what the rule looks for. In its texts
{port}, {temp} and {number} change from one alert to the next; all else stays.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Act:
    """One process at its work: command line, executable, parent, and the file or peer it touches.

    `workload`: where alone it is found (empty: anywhere).
    """

    cmdline: str
    exepath: str
    parent: str = "containerd-shim"
    target: str = ""
    tty: int = 0
    workload: str = ""
    extra: dict[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Rule:
    """A rule; `weight` is its share of the combinations that are drawn for the long tail."""

    name: str
    priority: str
    message: str
    fields: tuple[str, ...]
    tags: tuple[str, ...]
    acts: tuple[Act, ...]
    source: str = "syscall"
    event: str = "execve"
    weight: float = 1.0
