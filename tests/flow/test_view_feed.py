"""The viewer's feed where something of its own fails."""

from __future__ import annotations

import time
from typing import Any

import pytest
import structlog

from streamer.config.kafka import Kafka
from streamer.sink import Connection
from streamer.view.feed import Feed
from streamer.view.query import Query
from streamer.view.store import Store
from tests.unit.view.records import alert


def test_a_record_at_which_it_fails_costs_that_record(monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(time.time_ns() // 1_000_000)
    connection = Connection(Kafka(bootstrap_servers=("127.0.0.1:1",)))
    feed = Feed(connection, ["topic"], store, start="beginning", on_change=lambda: None)
    entry = store._reader.entry

    def fails(seen: Any, *arguments: Any) -> Any:
        if seen.offset == 1:
            raise RecursionError("a bug")
        return entry(seen, *arguments)

    monkeypatch.setattr(store._reader, "entry", fails)
    now_ms = time.time_ns() // 1_000_000
    messages = [alert(f"a{n}", time_ms=now_ms)._replace(offset=n) for n in range(3)]
    with structlog.testing.capture_logs() as logged:
        feed._take(messages, live=True)
    assert [entry.id for entry in store.rows(Query.parse([]), now_ms, 10)] == ["a2", "a0"]
    assert feed._places == {("topic", 0): 3}
    assert [(each["event"], each["record"]) for each in logged] == [("record_not_shown", "topic/0/1")]
