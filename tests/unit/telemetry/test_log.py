"""Our own log: what lasts is said once in ten seconds, with the count of what was left out."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import orjson
import pytest
import structlog

from streamer.telemetry.log import MOST_ALIKE, REPEAT_SECONDS, RepeatFilter


class Log:
    """A filter with a clock that the test turns."""

    def __init__(self) -> None:
        self.now = 0.0
        self.filter = RepeatFilter(lambda: self.now)

    def say(self, method: str = "warning", **event: Any) -> dict[str, Any] | None:
        """The event as it comes out, None if it does not."""
        try:
            return dict(self.filter(None, method, event))
        except structlog.DropEvent:
            return None


def test_a_warning_that_repeats_is_said_once_in_ten_seconds_with_the_count_of_the_others() -> None:
    log, said = Log(), []
    for second in range(25):
        log.now = second
        if (event := log.say(event="kafka_unavailable", cause="refused")) is not None:
            said.append((second, event.get("repeated")))
    assert said == [(0, None), (REPEAT_SECONDS, 9), (2 * REPEAT_SECONDS, 9)]


@pytest.mark.parametrize("fact", ["event", "target", "shard", "cause"])
def test_another_fact_is_another_event(fact: str) -> None:
    log = Log()
    event: dict[str, Any] = {"event": "failed", "target": "a", "shard": 1, "cause": "x"}
    assert log.say(**event) is not None
    assert log.say(**event) is None
    assert log.say(**event | {fact: "other"}) is not None


def test_errors_are_held_back_as_well_but_infos_never() -> None:
    log = Log()
    assert log.say("error", event="failed") is not None
    assert log.say("error", event="failed") is None
    assert [log.say("info", event="target_followed") for _ in range(3)] == [{"event": "target_followed"}] * 3


def test_after_a_quiet_while_nothing_is_said_of_a_count() -> None:
    log = Log()
    log.say(event="failed")
    log.now = 100
    assert log.say(event="failed") == {"event": "failed"}


def test_what_befalls_a_thousand_targets_at_once_is_written_ten_times_and_counted() -> None:
    log = Log()
    written = [log.say(event="failed", target=str(n)) for n in range(5000)]
    assert [event is not None for event in written] == [True] * MOST_ALIKE + [False] * (5000 - MOST_ALIKE)
    assert log.say(event="another", target="1") is not None
    log.now = REPEAT_SECONDS
    event = log.say(event="failed", target="new")
    assert event is not None
    assert event["repeated"] == 5000 - MOST_ALIKE


def test_what_is_remembered_is_bounded() -> None:
    log = Log()
    for n in range(5000):
        log.now += REPEAT_SECONDS
        assert log.say(event="failed", target=str(n)) is not None
    assert len(log.filter._written_at) <= 1000


def test_what_was_left_out_of_an_error_that_stopped_is_not_forgotten() -> None:
    log = Log()
    for _ in range(3):
        log.say(event="failed")
    assert log.filter.take_left_out() == {}  # it may go on
    log.now = REPEAT_SECONDS
    assert log.filter.take_left_out() == {"failed": 2}
    assert log.filter.take_left_out() == {}
    assert log.say(event="failed") == {"event": "failed"}


SAYING = """
import structlog
from streamer.telemetry.log import configure
configure({level!r}, {style!r})
log = structlog.get_logger()
log.debug("detail")
log.info("fact", target="a/b")
for _ in range(2):
    log.warning("trouble", cause="x")
"""


def lines_of(level: str, style: str) -> tuple[str, list[str]]:
    code = SAYING.format(level=level, style=style)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout, done.stderr.splitlines()


def test_without_a_terminal_the_log_is_json_on_stderr() -> None:
    out, said = lines_of("info", "auto")
    assert out == ""
    events = [orjson.loads(line) for line in said]
    assert [(event["event"], event["level"]) for event in events] == [
        ("fact", "info"),
        ("trouble", "warning"),
    ]
    assert list(events[0]) == ["timestamp", "level", "event", "target"]  # as people read
    assert events[0]["target"] == "a/b"
    assert all(event["timestamp"].endswith("Z") for event in events)


def test_the_level_is_obeyed() -> None:
    assert len(lines_of("error", "json")[1]) == 0
    assert len(lines_of("debug", "json")[1]) == 3


def test_another_level_and_style_hold_for_loggers_that_have_spoken_already() -> None:
    code = SAYING.format(level="error", style="json") + (
        "configure('debug', 'json')\nlog.debug('now')\nconfigure('warning', 'console')\n"
        "log.info('not this')\nlog.warning('last')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    now, last = done.stderr.splitlines()
    assert orjson.loads(now)["event"] == "now"
    assert "last" in last
    assert not last.startswith("{")


def test_for_people_it_is_text() -> None:
    _, said = lines_of("info", "console")
    assert "fact" in said[0]
    assert not said[0].startswith("{")
