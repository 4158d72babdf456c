"""docs/operations.md tells of everything that the worker says, and of nothing else."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from streamer.telemetry import metrics
from streamer.telemetry.gauges import StatusCollector
from streamer.telemetry.metrics import PREFIX, REGISTRY
from streamer.telemetry.status import Status

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "operations.md").read_text()
LEVELS = {"exception": "error"}


def section(title: str) -> str:
    """A section's text, with the sections below it."""
    return re.split(r"^## ", PAGE.split(f"\n## {title}\n")[1], maxsplit=1, flags=re.MULTILINE)[0]


def documented() -> dict[str, tuple[str, ...]]:
    """The metrics of the tables' first columns with their labels."""
    found: dict[str, tuple[str, ...]] = {}
    for row in re.findall(r"^\| (`.*?) \|", section("Metrics"), re.MULTILINE):
        for name, labels in re.findall(r"`(\w+)(?:\{([\w,]+)\})?`", row):
            found[name] = tuple(labels.split(",")) if labels else ()
    return found


def served() -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    metrics.FILTERED.keep(["a-filter"])  # these have the names of the configuration's filters, and no others
    metrics.FILTER_MAX_SHARE.labels("a-filter")
    metrics.FILTER_EXPIRY.labels("a-filter")
    for family in (*REGISTRY.collect(), *StatusCollector(lambda: Status("test")).collect()):
        if family.name.startswith(PREFIX):
            name = family.name.removeprefix(f"{PREFIX}_") + ("_total" if family.type == "counter" else "")
            found[name] = tuple(label for label in family.samples[0].labels if label != "le")
    return found


def test_every_metric_has_its_row_with_its_labels_and_no_row_is_without_one() -> None:
    assert documented() == served()


def test_every_metric_has_a_sentence_of_help_and_its_unit_in_its_name() -> None:
    units = {"How long": "_seconds", "How far": "_seconds", "When": "_timestamp_seconds", "Memory": "_bytes"}
    for family in (*REGISTRY.collect(), *StatusCollector(lambda: Status("test")).collect()):
        text, name = family.documentation, family.name
        assert text.endswith("."), name
        for beginning, unit in units.items():
            assert not text.startswith(beginning) or name.endswith(unit), name
        if family.type == "histogram":
            assert name.endswith("_seconds")


def logged() -> set[tuple[str, str]]:
    """Every event in the source with its level; an event's name is written where it is logged."""
    found = set()
    for path in (ROOT / "streamer").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Call(func=ast.Attribute(value=ast.Name(id="log"), attr=level), args=[event, *rest]):
                    if "simulator" in path.parts:
                        continue
                    assert isinstance(event, ast.Constant), f"{path}:{node.lineno}: an event needs a name"
                    assert not rest, f"{path}:{node.lineno}: facts are named"
                    found.add((str(event.value), LEVELS.get(level, level)))
                case ast.Call(func=ast.Name(id="log_failure"), args=[ast.Constant(value=str(name)), _]):
                    found.add((name, "error"))
                case ast.Call(func=ast.Name(id="log_failure")):
                    raise AssertionError(f"{path}:{node.lineno}: an event needs a name")
    return found


def test_every_log_event_has_its_row_with_its_level_and_no_row_is_without_one() -> None:
    told = set()
    for names, level in re.findall(r"^\| (`.*?) \| (\w+) \|", section("Log events"), re.MULTILINE):
        told |= {(name, level) for name in re.findall(r"`(\w+)`", names)}
    assert told == logged()


def test_the_names_of_events_are_words() -> None:
    assert all(re.fullmatch(r"[a-z]+(_[a-z]+)+", event) for event, _ in logged())


def test_links_within_the_page_lead_somewhere() -> None:
    anchors = {
        re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")
        for title in re.findall(r"^#+ (.*)$", PAGE, re.MULTILINE)
    }
    assert set(re.findall(r"\]\(#([\w-]+)\)", PAGE)) <= anchors
