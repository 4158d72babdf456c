"""What to do with an alert elsewhere: a `tap` command, a filter for `streamer.yaml`, an exception for Falco's rules."""

from __future__ import annotations

import shlex
from typing import Any, Final

import yaml

from streamer.model import Alert
from streamer.transform.matcher import texts
from streamer.transform.matcher_syntax import quote

_TELLING: Final = (
    ("k8s.ns.name", "ka.target.namespace"),
    ("container.image.repository",),
    ("proc.name",),
    ("proc.cmdline", "ka.uri"),
    ("user.name", "ka.user.name"),
)
"""The fields that say who did what, of which the first that an alert has is taken."""
_EXCEPTED: Final = frozenset({"k8s.ns.name", "container.image.repository", "proc.name", "proc.cmdline"})


def matchers(alert: Alert) -> list[str]:
    """Conditions that this alert meets, and few others."""
    found = [f"rule = {quote(alert.rule)}"]
    for name, value in _told(alert):
        found.append(f"{name} = {quote(value)}")
    return found


def tap(alert: Alert) -> str:
    """The command that shows such alerts."""
    conditions = [part for each in matchers(alert) for part in ("--where", each)]
    return shlex.join(["falco-streamer", "tap", "--since", "1h", *conditions])


def filter_entry(alert: Alert) -> str:
    """An entry for `filters` in `streamer.yaml`."""
    entry = {"action": "drop", "match": matchers(alert), "reason": "say here why this is not wanted"}
    return _yaml({"filters": [entry]})


def exception(alert: Alert) -> str:
    """An exception for the rule, for a file of Falco's rules that is loaded after the rule's own."""
    told = [(name, value) for name, value in _told(alert) if name in _EXCEPTED]
    if not told:
        return ""
    made: dict[str, Any] = {
        "name": "known_workload",
        "fields": [name for name, _ in told],
        "comps": ["="] * len(told),
        "values": [[value for _, value in told]],
    }
    return _yaml([{"rule": alert.rule, "exceptions": [made], "override": {"exceptions": "append"}}])


def _told(alert: Alert) -> list[tuple[str, str]]:
    found = []
    for names in _TELLING:
        for name in names:
            values = texts(alert.fields.get(name))
            if values and (value := values[0]) and value != "<NA>":
                found.append((name, value))
                break
    return found


def _yaml(value: object) -> str:
    text: str = yaml.safe_dump(value, sort_keys=False, allow_unicode=False, width=1000)
    return text
