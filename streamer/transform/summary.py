"""The value of a summary: in the form of an alert, so that what reads alerts can read it, and what was counted."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import Any, Final, NamedTuple

import orjson

from streamer.model import Alert
from streamer.transform.fingerprint import FIRST_FIELDS
from streamer.transform.repeats import Repeats, Variant
from streamer.transform.sample import shortened
from streamer.transform.stamp import to_rfc3339
from streamer.transform.window import Window

_SECOND_NS: Final = 1_000_000_000
_SHOWN_VARIANTS: Final = 3
_SHOWN_FIELDS: Final = 4
_SHOWN_CHARACTERS: Final = 120


class Part(NamedTuple):
    """What a window has counted since it was last reported."""

    sample: Alert
    """The first alert that was counted: its keys are the summary's."""
    window: Window
    repeats: Repeats
    head_id: str
    """The record id of the alert that opened the window."""
    reason: str
    """Why it is reported now."""
    final: bool
    """Whether the window is over."""

    @property
    def last_ns(self) -> int:
        """The time of the last alert that was counted."""
        return max(variant.last_ns for variant in self.repeats.variants.values())


def summary_values(part: Part, most_pieces: int, *, as_small_as_possible: bool = False) -> list[bytes]:
    """The part as summaries, in JSON: so many at most, each with some of the variants and their count.

    New variants come first. Where each variant has a summary of its own, `output_fields` are left out. What is to be
    `as_small_as_possible` has long texts cut, which an ellipsis shows.
    """
    every = sorted(part.repeats.variants.values(), key=lambda variant: not variant.is_new)
    size = -(-len(every) // most_pieces)
    pieces = [every[at : at + size] for at in range(0, len(every), size)]
    bare = most_pieces > 1 and size == 1
    found = []
    for number, variants in enumerate(pieces, 1):
        fields = _own_fields(part, variants[0]) if bare else _table(part.sample, variants)
        value = _value(part, variants, fields, (number, len(pieces)))
        if bare:
            value["output_fields"] = {}
        if as_small_as_possible:
            for variant in value["summary"]["variants"]:
                variant["fields"] = shortened(variant["fields"])
        found.append(_dumped(value))
    return found


def unsummarised(repeats: Repeats, head_id: str, *, with_text: bool) -> dict[str, Any]:
    """What a window has counted, for the health record in place of a summary that cannot be made.

    Without text it has counts and ids alone.
    """
    variants = list(repeats.variants.values())
    return {
        "count": repeats.count,
        "from": to_rfc3339(min(variant.first_ns for variant in variants)),
        "to": to_rfc3339(max(variant.last_ns for variant in variants)),
        "group": repeats.group_id.hex(),
        "head_id": head_id,
        "sample": repeats.sample.decode(errors="replace") if with_text else "",
        "variants": [
            {
                "id": variant.id.hex(),
                "count": variant.count,
                "new": variant.is_new,
                "fields": variant.fields if with_text else {},
            }
            for variant in variants
        ],
    }


def _value(
    part: Part, variants: Sequence[Variant], fields: Sequence[dict[str, Any]], piece: tuple[int, int]
) -> dict[str, Any]:
    sample, window = part.sample, part.window
    count = sum(variant.count for variant in variants)
    first_ns = min(variant.first_ns for variant in variants)
    last_ns = max(variant.last_ns for variant in variants)
    time, priority = to_rfc3339(last_ns), sample.priority.name.capitalize()
    return {
        "hostname": sample.hostname,
        "output": f"{time[11:29]}: {priority} {sample.rule} "
        + _sentence(count, last_ns - first_ns, variants, [own or _first_fields(sample) for own in fields]),
        "output_fields": sample.fields,
        "priority": priority,
        "rule": sample.rule,
        "source": sample.source,
        "tags": sample.tags,
        "time": time,
        "summary": {
            "count": count,
            "first_seen": to_rfc3339(first_ns),
            "last_seen": time,
            "seconds": (last_ns - first_ns) / _SECOND_NS,
            "window": {
                "start": to_rfc3339(window.head_ns),
                "level": window.level,
                "length_seconds": window.length_ns / _SECOND_NS,
            },
            "part": window.part + 1,
            "piece": piece[0],
            "pieces": piece[1],
            "final": part.final,
            "reason": part.reason,
            "head_id": part.head_id,
            "group": part.repeats.group_id.hex(),
            "variants": [_variant(variant, own) for variant, own in zip(variants, fields, strict=True)],
        },
    }


def _variant(variant: Variant, fields: dict[str, Any]) -> dict[str, Any]:
    first = to_rfc3339(variant.first_ns)
    return {
        "id": variant.id.hex(),
        "fields": fields,
        "new": variant.is_new,
        "count": variant.count,
        "first_seen": first,
        "last_seen": first if variant.last_ns == variant.first_ns else to_rfc3339(variant.last_ns),
    }


def _table(sample: Alert, variants: Sequence[Variant]) -> list[dict[str, Any]]:
    """For each variant its value of every field in which any of them differs from the sample."""
    names = sorted({name for variant in variants for name in variant.fields}, key=_first_fields_first)
    return [
        {name: variant.fields.get(name, sample.fields.get(name)) for name in names} for variant in variants
    ]


def _own_fields(part: Part, variant: Variant) -> list[dict[str, Any]]:
    """The fields of a variant whose summary has no others: all of the sample's where it is that one's variant."""
    is_sample = variant is next(iter(part.repeats.variants.values()))
    return [dict(part.sample.fields) if is_sample else variant.fields]


def _first_fields(sample: Alert) -> dict[str, Any]:
    """What a reader looks for first, of an alert that is alone."""
    found = {name: sample.fields[name] for name in FIRST_FIELDS if sample.fields.get(name) is not None}
    return found or dict(islice(sample.fields.items(), _SHOWN_FIELDS))


def _first_fields_first(name: str) -> tuple[bool, str]:
    return name not in FIRST_FIELDS, name


def _sentence(count: int, span_ns: int, variants: Sequence[Variant], fields: Sequence[dict[str, Any]]) -> str:
    """What was counted, for people: how often, in what time, and the new variants."""
    said = "repeated once" if count == 1 else f"repeated {count} times in {_span(span_ns)}"
    shown = [own for variant, own in zip(variants, fields, strict=True) if variant.is_new]
    if len(variants) > 1:
        said += f", {len(variants)} variants"
    if shown:
        said += f", {len(shown)} new"
    else:
        shown = list(fields[:1])
    more = f"; and {len(shown) - _SHOWN_VARIANTS} more" if len(shown) > _SHOWN_VARIANTS else ""
    return f"{said}: " + "; ".join(map(_shown, shown[:_SHOWN_VARIANTS])) + more


def _shown(fields: dict[str, Any]) -> str:
    """Some fields of a variant, quoted, and cut where they are long, which an ellipsis shows."""
    shown = [f"{_cut(name)}={_quoted(value)}" for name, value in islice(fields.items(), _SHOWN_FIELDS)]
    return " ".join(shown) + (" …" if len(fields) > _SHOWN_FIELDS else "")


def _quoted(value: Any) -> str:
    if type(value) is str:
        return orjson.dumps(_cut(value)).decode()
    try:
        return _cut(orjson.dumps(value).decode())
    except TypeError:
        return "…"


def _cut(text: str) -> str:
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[: _SHOWN_CHARACTERS - 1]}…"


def _span(span_ns: int) -> str:
    seconds = span_ns / _SECOND_NS
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < 120 else f"{minutes / 60:.1f} h"


def _dumped(value: dict[str, Any]) -> bytes:
    try:
        return orjson.dumps(value)
    except TypeError:  # nested deeper than it writes, though it reads them: such values are shown as text
        for fields in (value, *value["summary"]["variants"]):
            key = "output_fields" if fields is value else "fields"
            fields[key] = {name: _flat(each) for name, each in fields[key].items()}
        return orjson.dumps(value)


def _flat(value: Any) -> Any:
    if not isinstance(value, list | dict):
        return value
    try:
        return orjson.dumps(value).decode()
    except TypeError:
        return "…"
