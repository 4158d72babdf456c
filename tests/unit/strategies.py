"""What hypothesis draws from: texts, alerts, lines and logs as Falco's pods have them, and worse."""

from __future__ import annotations

from typing import Any

import orjson
from hypothesis import strategies as st

from streamer.model import Priority

NANOSECONDS = st.integers(min_value=0, max_value=2**63 - 1)
"""Times that this project can hold: 1970 to 2262."""

ANY_TEXT = st.text(max_size=40)
"""Includes NUL, controls, right-to-left marks and all planes; no lone surrogates, which UTF-8 has not."""

PRIORITY_NAMES = st.sampled_from([priority.name.capitalize() for priority in Priority])

FIELD_VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(min_value=-(2**63), max_value=2**64 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    ANY_TEXT,
    st.lists(ANY_TEXT, max_size=3),
)

JSON_VALUES = st.recursive(
    FIELD_VALUES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(ANY_TEXT, inner, max_size=3),
    max_leaves=8,
)


@st.composite
def alert_objects(draw: st.DrawFn) -> dict[str, Any]:
    """Alerts of any Falco version: optional keys come and go, fields are of any type, rules of any name."""
    found: dict[str, Any] = {"rule": draw(ANY_TEXT), "priority": draw(PRIORITY_NAMES)}
    optional: dict[str, st.SearchStrategy[Any]] = {
        "time": st.sampled_from(["2026-11-20T10:00:00.123456789Z", "2026-11-20T10:00:00Z", "no time"]),
        "source": st.sampled_from(["syscall", "k8s_audit", "internal"]),
        "hostname": ANY_TEXT,
        "output": ANY_TEXT,
        "message": ANY_TEXT,
        "tags": st.lists(ANY_TEXT, max_size=3),
        "output_fields": st.dictionaries(ANY_TEXT, FIELD_VALUES, max_size=4),
    }
    for key, values in optional.items():
        if draw(st.booleans()):
            found[key] = draw(values)
    return found


ALERT_BODIES = alert_objects().map(orjson.dumps)

NEAR_ALERTS = st.one_of(
    JSON_VALUES.map(orjson.dumps),
    st.fixed_dictionaries({}, optional=dict.fromkeys(("rule", "priority", "time", "tags"), JSON_VALUES)).map(
        orjson.dumps
    ),
    st.tuples(ALERT_BODIES, st.integers(0, 200)).map(lambda cut: cut[0][: cut[1]]),
    st.tuples(ALERT_BODIES, st.integers(0, 200)).map(lambda cut: cut[0][cut[1] :]),
    st.tuples(ALERT_BODIES, st.binary(max_size=5), st.integers(0, 200)).map(
        lambda dent: dent[0][: dent[2]] + dent[1] + dent[0][dent[2] :]
    ),
)
"""JSON that is not an alert, and alerts that were cut or dented."""

TEXT_BODIES = st.sampled_from(
    [
        b"",
        b"\r",
        b"Fri Nov 20 10:00:00 2026: Loading rules from:",
        b"2026-11-20T10:00:00+0000: Falco version: 0.44.1 (x86_64)",
        b"Events detected: 3",
        b"   INFO: 3",
        b"no such thing",
        b"10:00:00.123456789: Warning Sensitive file opened for reading by non-trusted program",
    ]
)

BODIES = st.one_of(ALERT_BODIES, ALERT_BODIES, NEAR_ALERTS, TEXT_BODIES, st.binary(max_size=60)).map(
    lambda body: body.replace(b"\n", b" ")
)
"""What can stand in one line of a pod's log behind its timestamp."""


def cuts(length: int) -> st.SearchStrategy[list[int]]:
    """Where to cut something of this length: ascending, perhaps with pieces of nothing."""
    return st.lists(st.integers(0, length), max_size=12).map(sorted)


def pieces(whole: bytes, at: list[int]) -> list[bytes]:
    """The whole, cut there."""
    return [whole[a:b] for a, b in zip([0, *at], [*at, len(whole)], strict=True)]
