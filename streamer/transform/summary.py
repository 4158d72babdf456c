"""The value of a summary: Falco-shaped, so that whoever reads alerts can read it, with what was counted beside it."""

from __future__ import annotations

from itertools import islice
from typing import Any, Final

import orjson

from streamer.model import Alert
from streamer.transform.stamp import to_rfc3339
from streamer.transform.window import Repeats, Window

_SECOND_NS: Final = 1_000_000_000
_SHRUNK_VARIANTS: Final = 50
_SHRUNK_TEXT: Final = 64


def summary_value(
    sample: Alert,
    window: Window,
    repeats: Repeats,
    *,
    head_id: str,
    group: bytes,
    final: bool,
    reason: str,
    shrink: int = 0,
) -> bytes:
    """A summary as JSON.

    `sample` is the first alert that was counted, parsed; its keys are the summary's. `shrink` says how often Kafka
    refused this record for its size: first the variants are cut, then they and the sample's fields are left out.
    """
    time = to_rfc3339(repeats.last_ns)
    texts = {variant: repeats.texts.get(variant, "") for variant in repeats.variants}
    most = (len(texts), _SHRUNK_VARIANTS, 0)[min(shrink, 2)]
    variants = [
        {"text": text[:_SHRUNK_TEXT] if shrink else text, "count": repeats.variants[variant]}
        for variant, text in islice(texts.items(), most)
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
        "final": final,
        "reason": reason,
        "head_id": head_id,
        "fingerprint": group.hex(),
        "variants": variants,
        "variants_omitted": len(texts) - len(variants),
    }
    priority = sample.priority.name.capitalize()
    times = "once" if repeats.count == 1 else f"{repeats.count} times"
    kinds = "" if len(texts) == 1 else f", {len(texts)} variants"
    fields = {} if shrink > 1 else sample.fields
    value = {
        "hostname": sample.hostname,
        "output": f"{time[11:29]}: {priority} {sample.rule} repeated {times} in {_span(window.length_ns)}{kinds}"
        + "".join(f": {variant['text']}" for variant in variants[:1]),
        "output_fields": fields,
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
