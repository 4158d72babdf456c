"""Alerts and fields that are kept for a summary: as they are, unless they are very long."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import Any, Final

import orjson

from streamer.model import Alert

_MOST_BYTES: Final = 16 * 1024
_MOST_FIELDS: Final = 64
_MOST_CHARACTERS: Final = 256


def sample_of(alert: Alert) -> bytes:
    """The alert as it is; a very long one with its long texts cut: it has to fit the state and a summary."""
    if len(alert.body) <= _MOST_BYTES:
        return alert.body
    return orjson.dumps(
        {
            "hostname": alert.hostname[:_MOST_CHARACTERS],
            "output_fields": shortened(alert.fields),
            "priority": alert.priority.name.capitalize(),
            "rule": alert.rule[:_MOST_CHARACTERS],
            "source": alert.source[:_MOST_CHARACTERS],
            "tags": [tag[:_MOST_CHARACTERS] for tag in alert.tags[:_MOST_FIELDS]],
        }
    )


def shortened(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The first fields, with long texts cut, which an ellipsis shows; without lists and objects."""
    return {
        name: value
        if type(value) is not str or len(value) <= _MOST_CHARACTERS
        else f"{value[: _MOST_CHARACTERS - 1]}…"
        for name, value in islice(fields.items(), _MOST_FIELDS)
        if value is None or isinstance(value, str | int | float)
    }
