"""docs/operations.md tells of everything that the worker says, and of nothing else."""

from __future__ import annotations

import re
from pathlib import Path

from streamer.telemetry.gauges import StatusCollector
from streamer.telemetry.metrics import PREFIX, REGISTRY
from streamer.telemetry.status import Status

PAGE = (Path(__file__).parents[2] / "docs" / "operations.md").read_text()


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
    for family in (*REGISTRY.collect(), *StatusCollector(lambda: Status("test")).collect()):
        if family.name.startswith(PREFIX):
            name = family.name.removeprefix(f"{PREFIX}_") + ("_total" if family.type == "counter" else "")
            found[name] = tuple(label for label in family.samples[0].labels if label != "le")
    return found


def test_every_metric_has_its_row_with_its_labels_and_no_row_is_without_one() -> None:
    assert documented() == served()
