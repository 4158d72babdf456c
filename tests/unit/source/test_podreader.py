"""Watch events, read at little cost: what is left out may not change what is read."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from streamer.simulator import Cluster
from streamer.source.api import ApiError
from streamer.source.podreader import PodReader
from streamer.source.pods import NOT_AN_OBJECT, read_pod

BEGIN, END = '"managedFields":[', ']},"spec":'
FIELDS = [{"manager": "kubelet", "fieldsV1": {'k:{"a":[1]},"spec":': {".": {}}, "f:spec": {"f:x": {}}}}]


def pod(annotations: dict[str, str], managed: Any) -> dict[str, Any]:
    cluster = Cluster(seed=1)
    item = cluster.object(cluster.add_pod("falco", "a"))
    return item | {"metadata": item["metadata"] | {"annotations": annotations, "managedFields": managed}}


@pytest.mark.parametrize(
    "annotations", [{}, {BEGIN: END}, {END: BEGIN}, {"a": BEGIN + END}, {"a": "\\" + BEGIN}]
)
@pytest.mark.parametrize("managed", [[], FIELDS, FIELDS * 3, None, {}])
def test_what_is_kept_does_not_depend_on_managed_fields(annotations: dict[str, str], managed: Any) -> None:
    item = pod(annotations, managed)
    line = orjson.dumps({"type": "MODIFIED", "object": item})
    event = PodReader("falco").event(line)
    assert event.pod == read_pod(item, "falco")
    assert (event.kind, event.uid) == ("MODIFIED", item["metadata"]["uid"])
    assert event.version == item["metadata"]["resourceVersion"]


def test_an_event_that_two_watches_bring_is_read_once() -> None:
    reader = PodReader("falco")
    line = orjson.dumps({"type": "ADDED", "object": pod({}, FIELDS)})
    assert reader.event(line) is reader.event(bytes(bytearray(line)))


def test_a_bookmark_has_a_version_and_no_pod() -> None:
    line = b'{"type":"BOOKMARK","object":{"kind":"Pod","metadata":{"resourceVersion":"77"}}}'
    event = PodReader("falco").event(line)
    assert (event.version, event.pod, event.uid) == ("77", None, "")


def test_an_error_is_the_servers() -> None:
    with pytest.raises(ApiError) as raised:
        PodReader("falco").event(b'{"type":"ERROR","object":{"code":410,"message":"too old"}}')
    assert (raised.value.status, raised.value.message) == (410, "too old")


@pytest.mark.parametrize(
    "line", [b"", b"[]", b'{"type":"ADDED"}', b'{"type":"ADDED","object":{"metadata":{}}}']
)
def test_what_is_no_event_raises(line: bytes) -> None:
    with pytest.raises(NOT_AN_OBJECT):
        PodReader("falco").event(line)
