"""Holds records against what is promised of them: the JSON Schemas of docs/schemas, and the headers.

`check_record` takes records before they are sent and as a consumer gets them.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import unquote

import orjson
from jsonschema import Draft202012Validator

SCHEMAS = Path(__file__).parents[1] / "docs" / "schemas"

_COMMON = (
    "content-type",
    "ce_specversion",
    "ce_id",
    "ce_source",
    "ce_type",
    "ce_time",
    "kind",
    "cluster",
    "node",
)
_OF_A_RULE = ("rule", "priority")
HEADERS = {
    "alert": (*_COMMON, *_OF_A_RULE),
    "summary": (*_COMMON, *_OF_A_RULE),
    "health": (*_COMMON, "health"),
    "dead-letter": (*_COMMON, "reason"),
}
"""The headers that each kind of record has."""
OPTIONAL_HEADERS = {"alert": {"limited_by"}, "health": {"reason"}}

_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z")
_PRIORITY = re.compile("emergency|alert|critical|error|warning|notice|informational|debug")


class KafkaRecord(Protocol):
    """What `streamer.model.Record` and aiokafka's records have in common."""

    @property
    def key(self) -> bytes: ...
    @property
    def value(self) -> bytes: ...
    @property
    def headers(self) -> Sequence[tuple[str, bytes]]: ...


def check_record(record: KafkaRecord, fields: Collection[str] = ()) -> None:
    """Raise AssertionError if a record is not what its `ce_type` says it is; `fields` are the static ones."""
    headers = {name: value.decode() for name, value in record.headers}
    assert len(headers) == len(record.headers), "a header occurs twice"
    assert len({name.removeprefix("ce_") for name in headers}) == len(headers), "a fact occurs twice"
    kind = headers["kind"]
    required = {*HEADERS[kind], *fields}
    assert headers.keys() >= required, f"{kind}: no {required - headers.keys()}"
    unknown = headers.keys() - required - OPTIONAL_HEADERS.get(kind, set())
    assert not unknown, f"{kind}: {unknown} is described nowhere"
    assert headers["ce_type"] == f"org.falco.{kind.replace('-', '')}.v{2 if kind == 'summary' else 1}"
    assert (headers["content-type"], headers["ce_specversion"]) == ("application/json", "1.0")
    assert headers["ce_id"]
    namespace, pod = record.key.decode().split("/")
    source = f"/clusters/{headers['cluster']}/namespaces/{namespace}/pods/{pod}"
    assert unquote(headers["ce_source"]) == source
    assert _TIME.fullmatch(headers["ce_time"]), headers["ce_time"]
    if kind in {"alert", "summary"}:
        assert _PRIORITY.fullmatch(headers["priority"]), headers["priority"]
    value = orjson.loads(record.value)
    if kind != "alert":
        for name in {"reason", "health", "rule"} & headers.keys() & value.keys():
            assert value[name].startswith(headers[name])
    errors = [
        f"{error.json_path}: {error.message}"
        for error in validator(f"urn:falco-streamer:schema:{headers['ce_type']}").iter_errors(value)
    ]
    assert not errors, f"{headers['ce_type']}: {errors}"


def check_records(records: Sequence[KafkaRecord]) -> None:
    """`check_record` for each."""
    for record in records:
        check_record(record)


@cache
def schemas() -> dict[str, dict[str, Any]]:
    """All schemas by their `$id`."""
    read = [orjson.loads(path.read_bytes()) for path in sorted(SCHEMAS.glob("*.json"))]
    return {schema["$id"]: schema for schema in read}


@cache
def validator(name: str) -> Draft202012Validator:
    """The validator of a schema, which takes nothing that the schema does not describe.

    The published schemas are open: a later release of the same version may have more keys, and more words where
    some are listed. What this release writes must be in them all the same.
    """
    return Draft202012Validator(closed(schemas()[name]))


def closed(schema: Any) -> Any:
    """A schema without its openness. Falco's own objects, which describe no keys, stay open."""
    if isinstance(schema, list):
        return [closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    found = {key: closed(each) for key, each in schema.items()}
    if (words := found.get("anyOf")) and any("const" in word for word in words):
        found["anyOf"] = [word for word in words if "const" in word]
    is_falcos = "alert.v1" in found.get("$id", "")
    if found.get("type") == "object" and "properties" in found and not is_falcos:
        found["unevaluatedProperties"] = False
    return found
