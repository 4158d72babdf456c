"""What an exception leaves in our log and on stderr: where it was, and never what it says."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import structlog
from structlog.testing import capture_logs

from streamer.telemetry.failure import as_text, described, log_failure
from streamer.telemetry.log import configure

SECRET = "rm -rf /secret"


def inner() -> None:
    raise KeyError(SECRET)


def failed() -> Exception:
    """As the core fails: with a cause, and both quote what it worked on."""
    try:
        try:
            inner()
        except KeyError as error:
            raise ValueError(SECRET) from error
    except ValueError as error:
        return error
    raise AssertionError


class TestAnException:
    def test_is_told_by_its_class_and_places_and_those_of_its_cause(self) -> None:
        found = described(failed())
        assert found["error"] == "ValueError"
        assert found["frames"][-1].endswith("in failed")
        [cause] = found["causes"]
        assert cause[0] == "KeyError"
        assert cause[-1].endswith("in inner")
        assert SECRET not in str(found)

    def test_of_a_group_is_told_with_the_first_of_it(self) -> None:
        found = described(ExceptionGroup(SECRET, [failed()]))
        assert [cause[0] for cause in found["causes"]] == ["ValueError", "KeyError"]
        assert SECRET not in str(found)

    def test_that_causes_itself_is_told_once(self) -> None:
        error = failed()
        assert error.__cause__ is not None
        error.__cause__.__cause__ = error
        assert len(described(error)["causes"]) == 1

    def test_is_text_for_people(self) -> None:
        text = as_text(failed())
        assert text.startswith("ValueError\n  ")
        assert "\ncaused by KeyError\n  " in text
        assert SECRET not in text

    def test_says_its_message_at_debug_only(self) -> None:
        with capture_logs() as logs:
            log_failure("it_failed", failed(), shard=3)
        assert [(one["event"], one["log_level"]) for one in logs] == [
            ("it_failed", "error"),
            ("failure_cause", "debug"),
        ]
        assert logs[0]["shard"] == 3
        assert SECRET not in str(logs[0])
        assert logs[1]["cause"].count(SECRET) == 2


@pytest.mark.parametrize("style", ["json", "console"])
def test_log_exception_writes_no_message(style: str, capsys: pytest.CaptureFixture[str]) -> None:
    configure("info", style)  # type: ignore[arg-type]
    try:
        try:
            inner()
        except KeyError:
            structlog.get_logger().exception(f"it_failed_{style}")
    finally:
        configure("info")
    written = capsys.readouterr().err
    assert SECRET not in written
    assert "in inner" in written
    if style == "json":
        assert json.loads(written)["error"] == "KeyError"


@pytest.mark.parametrize("flags", [[], ["-X", "dev"]])
def test_a_command_that_fails_shows_the_message_in_development_mode_only(flags: list[str]) -> None:
    planted = (
        "import streamer.cli.version as of, streamer.__main__\n"
        f"def planted(**_): raise ValueError({SECRET!r})\n"
        "of.version.callback = planted\n"
        "streamer.__main__.main()"
    )
    found = subprocess.run(
        [sys.executable, *flags, "-c", planted, "version"], capture_output=True, text=True, check=False
    )
    assert found.returncode == 1
    assert "ValueError" in found.stderr
    assert "in planted" in found.stderr
    assert (SECRET in found.stderr) is bool(flags)
