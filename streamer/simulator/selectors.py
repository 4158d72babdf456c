"""Label and field selectors, as query parameters write them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from streamer.simulator.pods import Json

    Test = Callable[[Mapping[str, str]], bool]

# Commas separate requirements, but not inside the parentheses of a set.
_COMMA = re.compile(r",(?![^(]*\))")
_KEY = r"(?P<key>[A-Za-z0-9]([A-Za-z0-9./_-]*[A-Za-z0-9])?)"
_SET = re.compile(rf"{_KEY}\s+(?P<verb>in|notin)\s*\((?P<values>[^()]*)\)")
_EQUAL = re.compile(rf"{_KEY}\s*(?P<verb>==|=|!=)\s*(?P<values>[A-Za-z0-9._-]*)")
_EXISTS = re.compile(rf"(?P<verb>!?)\s*{_KEY}")

FIELDS: dict[str, Callable[[Json], str]] = {
    "metadata.name": lambda pod: str(pod["metadata"]["name"]),
    "metadata.namespace": lambda pod: str(pod["metadata"]["namespace"]),
    "spec.nodeName": lambda pod: str(pod["spec"].get("nodeName", "")),
    "status.phase": lambda pod: str(pod["status"]["phase"]),
}


class SelectorError(ValueError):
    """A selector that cannot be read: HTTP 400."""


def label_selector(text: str) -> Test:
    """A test of labels: every requirement holds; an empty selector holds for all."""
    return _all([_label_requirement(part.strip()) for part in _COMMA.split(text) if part.strip()])


def _all(tests: list[Test]) -> Test:
    return lambda labels: all(test(labels) for test in tests)


def _label_requirement(text: str) -> Test:
    if found := _SET.fullmatch(text) or _EQUAL.fullmatch(text):
        key, verb = found["key"], found["verb"]
        values = {value.strip() for value in found["values"].split(",")}
        if verb in {"in", "=", "=="}:
            return lambda labels: labels.get(key) in values
        # What lacks the label is different from every value.
        return lambda labels: labels.get(key) not in values
    if found := _EXISTS.fullmatch(text):
        key, wanted = found["key"], not found["verb"]
        return lambda labels: (key in labels) is wanted
    msg = f"unable to parse requirement: {text}"
    raise SelectorError(msg)


def pod_selector(labels: str, fields: str, namespace: str | None) -> Callable[[Json], bool]:
    """A test of pod objects by label selector, field selector and namespace (None: all)."""
    wanted_labels = label_selector(labels)
    wanted_fields = [_field_requirement(part.strip()) for part in fields.split(",") if part.strip()]

    def matches(pod: Json) -> bool:
        metadata = pod["metadata"]
        return (
            (namespace is None or metadata["namespace"] == namespace)
            and wanted_labels(metadata["labels"])
            and all(test(pod) for test in wanted_fields)
        )

    return matches


def _field_requirement(text: str) -> Callable[[Json], bool]:
    found = re.fullmatch(r"([^=!]+)(==|=|!=)(.*)", text)
    if not found:
        msg = f"invalid selector: '{text}'; can't understand '{text}'"
        raise SelectorError(msg)
    name, verb, value = found.groups()
    if name not in FIELDS:
        msg = f"field label not supported: {name}"
        raise SelectorError(msg)
    read = FIELDS[name]
    return lambda pod: (read(pod) == value) is (verb != "!=")
