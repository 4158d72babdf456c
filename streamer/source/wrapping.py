"""Recognise what holds alerts, but not one on a line of its own: other tools' output, other encodings, arrays.

Each kind has a command that makes lines of it, which is the way out that its refusal names.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import orjson

from streamer.model import Priority
from streamer.source.saved import BOM


class Wrapping(NamedTuple):
    """What was found, and a filter that makes lines of it (a command that reads standard input); perhaps none."""

    what: str
    unwrap: str
    advice: str = ""
    """What to do in place of it, where there is a better way."""


_ENCODINGS: Final = {
    b"\xff\xfe\x00\x00": "UTF-32",
    b"\x00\x00\xfe\xff": "UTF-32",
    b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
}
_LOOK_BYTES: Final = 1000
_HITS: Final = re.compile(r'"hits"\s*:\s*\[')
_SOURCE: Final = re.compile(r'"_source"\s*:')
_ELASTICSEARCH: Final = Wrapping("the answer of Elasticsearch to a search", "jq -c '.hits.hits[]._source'")
_BEFORE: Final = re.compile(
    rb'([^{]{1,300}?)(?:\d{4}-\d\d-\d\dT[\d:.]+(?:Z|[+-]\d\d:\d\d) )?(\{".*)$', re.DOTALL
)
_STAMP: Final = re.compile(
    rb"(?:\d{4}-\d\d-\d\dT[\d:.]+(?:Z|[+-]\d\d:\d\d) )(?:(?:stdout|stderr) [FP][^ ]* )?"
)
_KUBECTL: Final = re.compile(rb"\[pod/[^]]+\] $")
_STERN: Final = re.compile(rb"(?:\x1b\[[\d;]*m|[\w.-]+ )+(?:\x1b\[[\d;]*m| )*$")
_DEPTH: Final = 6
_KEY: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def wrapping_of(head: bytes) -> Wrapping | None:
    """What a file that begins so is wrapped in; None where it has lines. The head may end anywhere."""
    for mark, encoding in _ENCODINGS.items():
        if head.startswith(mark):
            return _encoded(encoding)
    if (zeros := head[:_LOOK_BYTES].count(0)) * 3 > len(head[:_LOOK_BYTES]) > 3:
        # Of ASCII text in UTF-16 every other byte is 0.
        return _encoded("UTF-16LE" if head[1::2][:_LOOK_BYTES].count(0) * 2 >= zeros else "UTF-16BE")
    head = head.removeprefix(BOM)
    return _document(head.decode(errors="replace").lstrip()) or _lines(head)


def _encoded(encoding: str) -> Wrapping:
    return Wrapping(f"text in {encoding}", f"iconv -f {encoding} -t UTF-8")


def _document(text: str) -> Wrapping | None:
    """A file that begins with JSON of more than one line, or with an array."""
    if text[:1] not in {"{", "["}:
        return None
    try:
        value, end = json.JSONDecoder().raw_decode(text)
    except (ValueError, RecursionError):
        return _cut_document(text)
    if isinstance(value, dict) and "\n" not in text[:end].strip():
        return None  # a line of its own, as those after it
    return _by_path(value, spread="\n" in text[:end].strip())


def _cut_document(text: str) -> Wrapping | None:
    """JSON that goes on behind the head: an array by its first member, an answer by its keys."""
    if (hits := _HITS.search(text)) is not None and _SOURCE.search(text, hits.end()):
        return _ELASTICSEARCH
    if text[0] == "{":
        return None
    try:
        value, _ = json.JSONDecoder().raw_decode(text[1:].lstrip())
    except (ValueError, RecursionError):
        return None
    return _by_path([value], spread=False)


def _by_path(value: Any, *, spread: bool) -> Wrapping | None:
    found = _path(value)
    if found is None:
        return None
    path, is_text = found
    jq = f"jq -{'r' if is_text else 'c'} '{_shown(path)}'"
    if path == ".hits.hits[]._source":
        return _ELASTICSEARCH
    if path.startswith("[]"):
        return Wrapping("an array in JSON", jq)
    if not path:
        return Wrapping("JSON of several lines for each alert", jq) if spread else None
    return Wrapping(f"alerts inside other JSON (at {_shown(path)})", jq)


def _lines(head: bytes) -> Wrapping | None:
    """What more lines are wrapped in than are not."""
    votes: Counter[Wrapping | None] = Counter()
    for line in head.split(b"\n")[:-1] if b"\n" in head else [head]:
        if line.strip():
            vote = _line(line)
            if vote is not None:
                votes[None if vote == _FINE else vote] += 1
    if not votes:
        return None
    return votes.most_common(1)[0][0]


_FINE: Final = Wrapping("", "")


def _line(line: bytes) -> Wrapping | None:
    """How an alert is wrapped in this line; None where there is no alert in it."""
    if (stamp := _STAMP.match(line)) is not None:
        line = line[stamp.end() :]
    if line.startswith(b"{"):
        value = _loads(line)
        if _is_alert(value) or is_docker_line(value):
            return _FINE
        return _by_path(value, spread=False) if isinstance(value, dict) else None
    match = _BEFORE.match(line)
    if match is None or not _is_alert(_loads(match[2].rstrip())):
        return None
    if _KUBECTL.match(match[1]):
        return Wrapping(
            "the output of kubectl logs --prefix", r"sed -E 's/^\[pod[^]]*\] //'", "save it without --prefix"
        )
    if _STERN.match(match[1]):
        return Wrapping("the output of stern", "sed 's/^[^{]*//'", "run stern with --output raw")
    return Wrapping("text before each alert", "sed 's/^[^{]*//'")


def is_docker_line(value: Any) -> bool:
    """Whether it is a record of Docker's json-file, and not one of a shipper's that looks like it."""
    if not isinstance(value, dict) or not all(
        type(value.get(key)) is str for key in ("log", "stream", "time")
    ):
        return False
    # Docker keeps the newline; an alert without it is what a shipper has made of the record.
    return value["log"].endswith("\n") or not _is_alert(_loads(value["log"].encode()))


def _path(value: Any, depth: int = 0) -> tuple[str, bool] | None:
    """Where in a value the first alert is, as a path of jq's, and whether it is JSON inside of a text."""
    if _is_alert(value):
        return "", False
    if isinstance(value, str) and value.startswith('{"'):
        return ("", True) if _is_alert(_loads(value.encode(errors="replace"))) else None
    if depth == _DEPTH:
        return None
    members: list[tuple[str, Any]] = []
    if isinstance(value, Mapping):
        members = [(_member(key), one) for key, one in value.items()]
    elif isinstance(value, list):
        members = [("[]", one) for one in value[:3]]
    for step, one in members:
        if (found := _path(one, depth + 1)) is not None:
            return step + found[0], found[1]
    return None


def _member(key: str) -> str:
    return f".{key}" if _KEY.fullmatch(key) else f"[{json.dumps(key)}]"


def _shown(path: str) -> str:
    return path if path.startswith(".") else f".{path}"


def _loads(text: bytes) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return None


def _is_alert(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and type(value.get("rule")) is str
        and type(priority := value.get("priority")) is str
        and Priority.parse(priority) is not None
    )
