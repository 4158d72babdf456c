"""The state as lines of JSON: complete, so that it can be read again byte for byte, and decoded, so that people can.

The first line says what it is; each other line is one stored key: `bytes` is its value as it is stored, `value` the
same for people and `jq`, null where this release cannot read it.
"""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from streamer.transform.fingerprint import DIGEST_BYTES
from streamer.transform.limit import StormBucket
from streamer.transform.load import packed_of, value_of
from streamer.transform.repeats import Repeats
from streamer.transform.state import FORMAT, StateUnreadableError
from streamer.transform.window import Window

EXPORT_FORMAT: Final = 1
_MARK: Final = "falco_streamer_state"


class ExportUnreadableError(Exception):
    """A file is not an export of a state, or was cut or changed."""


@dataclass(frozen=True, slots=True)
class Export:
    """A whole state with what it belongs to."""

    cluster: str
    topic: str
    shards: Mapping[int, Mapping[str, bytes]]
    """The live keys of every shard with their values; a shard that has none is there too."""


def export_lines(export: Export, version: str, at: str) -> Iterator[str]:
    """The lines, all ASCII; `version` is the release that writes them, `at` the time in RFC 3339."""
    yield json.dumps(
        {
            _MARK: EXPORT_FORMAT,
            "cluster": export.cluster,
            "topic": export.topic,
            "shards": len(export.shards),
            "records": sum(map(len, export.shards.values())),
            "version": version,
            "exported": at,
        }
    )
    for shard, stored in sorted(export.shards.items()):
        for key, raw in sorted(stored.items()):
            encoded = base64.b64encode(raw).decode()
            # Not orjson: a key that is not UTF-8 has to survive, too.
            yield json.dumps({"shard": shard, "key": key, "value": _shown(key, raw), "bytes": encoded})


def read_export(lines: Iterable[str]) -> Export:
    """The state again; raises `ExportUnreadableError`, which names the line."""
    numbered = enumerate(lines, 1)
    head = _object(*next(numbered, (1, "{}")))
    if head.get(_MARK) != EXPORT_FORMAT:
        raise ExportUnreadableError(
            f"line 1: not an export of a state in format {EXPORT_FORMAT}: make one with `falco-streamer state export`"
        )
    try:
        shards: dict[int, dict[str, bytes]] = {shard: {} for shard in range(head["shards"])}
        number = 1
        for number, line in numbered:
            found = _object(number, line)
            shards[found["shard"]][str(found["key"])] = base64.b64decode(found["bytes"], validate=True)
    except (KeyError, TypeError, ValueError) as error:
        raise ExportUnreadableError(f"line {number}: it is not a stored key: {error!r}") from error
    if (count := sum(map(len, shards.values()))) != head.get("records"):
        raise ExportUnreadableError(f"it has {count} of {head.get('records')} keys: it was cut")
    return Export(str(head.get("cluster")), str(head.get("topic")), shards)


def _object(number: int, line: str) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except json.JSONDecodeError as error:
        raise ExportUnreadableError(f"line {number}: it is not JSON: {error}") from error
    if not isinstance(found, dict):
        raise ExportUnreadableError(f"line {number}: it is not JSON object")
    return found


def _shown(key: str, raw: bytes) -> dict[str, Any] | None:
    try:
        match key.partition("/")[0]:
            case "window":
                return {"v": FORMAT, **_window(Window.read(b"", packed_of(key, raw)))}
            case "limit":
                return {"v": FORMAT, **asdict(StormBucket.unpack(packed_of(key, raw)))}
            case "repeats":
                return {"v": FORMAT, **_repeats(Repeats.unpack(packed_of(key, raw)))}
            case _:
                return {"v": FORMAT, **value_of(key, raw)}
    except (StateUnreadableError, TypeError, ValueError, AttributeError, struct.error):
        return None


def _window(window: Window) -> dict[str, Any]:
    shown = range(0, len(window.shown), DIGEST_BYTES)
    names = ("start_ns", "length_ns", "head_ns", "level", "busy", "ended", "part")
    return {
        **{name: getattr(window, name) for name in names},
        "head": window.head.hex(),
        "shown": [window.shown[at : at + DIGEST_BYTES].hex() for at in shown],
    }


def _repeats(repeats: Repeats) -> dict[str, Any]:
    return {
        "count": repeats.count,
        "due_ns": repeats.due_ns,
        "evidence_due_ns": repeats.evidence_due_ns,
        "variants": {
            digest.hex(): {"count": one.count, "first_ns": one.first_ns, "last_ns": one.last_ns}
            for digest, one in repeats.variants.items()
        },
    }
