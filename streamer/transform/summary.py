"""The value of a summary: Falco-shaped, so that whoever reads alerts can read it, with what was counted beside it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Final

import orjson

from streamer.model import Alert
from streamer.transform.repeats import Repeats
from streamer.transform.stamp import to_rfc3339
from streamer.transform.window import Window

_SECOND_NS: Final = 1_000_000_000
_OUTPUT_CHARACTERS: Final = 256


def pieces_of(repeats: Repeats, pieces: int) -> Iterator[Repeats]:
    """What was counted, told in several summaries: each has some of the variants, and their count."""
    variants = list(repeats.variants.items())
    size = -(-len(variants) // pieces)
    for at in range(0, len(variants), size):
        mine = dict(variants[at : at + size])
        yield replace(repeats, variants=mine, count=sum(mine.values()))


def summary_value(
    sample: Alert,
    window: Window,
    repeats: Repeats,
    *,
    head_id: str,
    group: bytes,
    final: bool,
    reason: str,
    piece: tuple[int, int] = (1, 1),
    bare: bool = False,
) -> bytes:
    """A summary as JSON.

    `sample` is the first alert that was counted, parsed; its keys are the summary's. `piece` is which of how many
    summaries this is that tell of the same part; `bare` leaves the sample's fields out.
    """
    time = to_rfc3339(repeats.last_ns)
    variants = [
        {"text": repeats.texts.get(variant, ""), "count": count}
        for variant, count in repeats.variants.items()
    ]
    told: dict[str, Any] = {
        "count": repeats.count,
        "first_seen": to_rfc3339(repeats.first_ns),
        "last_seen": time,
        "window": {
            "start": to_rfc3339(window.head_ns),
            "seconds": window.length_ns / _SECOND_NS,
            "level": window.level,
        },
        "part": window.part + 1,
        "piece": piece[0],
        "pieces": piece[1],
        "final": final,
        "reason": reason,
        "head_id": head_id,
        "fingerprint": group.hex(),
        "variants": variants,
    }
    priority = sample.priority.name.capitalize()
    times = "once" if repeats.count == 1 else f"{repeats.count} times"
    kinds = "" if len(variants) == 1 else f", {len(variants)} variants"
    value = {
        "hostname": sample.hostname,
        "output": f"{time[11:29]}: {priority} {sample.rule} repeated {times} in {_span(window.length_ns)}{kinds}"
        + "".join(
            f": {repeats.texts.get(variant, '')[:_OUTPUT_CHARACTERS]}" for variant in [*repeats.variants][:1]
        ),
        "output_fields": {} if bare else sample.fields,
        "priority": priority,
        "rule": sample.rule,
        "source": sample.source,
        "tags": sample.tags,
        "time": time,
        "summary": told,
    }
    try:
        return orjson.dumps(value)
    except TypeError:  # fields nested deeper than it writes, though it reads them
        return orjson.dumps(value | {"output_fields": {}})


def _span(length_ns: int) -> str:
    seconds = length_ns / _SECOND_NS
    return f"{seconds:g} s" if seconds < 60 else f"{seconds / 60:g} min"
