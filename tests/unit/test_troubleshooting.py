"""docs/troubleshooting.md quotes what the program says, and its links lead somewhere."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/troubleshooting.md").read_text()
ROWS = [line for line in PAGE.splitlines() if re.match(r"\| (?!you see|---)", line)]
QUOTED = [text for row in ROWS for text in re.findall(r"`([^`]+)`", row.split(" | ")[0])]
METRICS = {"lag_seconds"}


def said() -> str:
    """All texts in the program, each on a line of its own; a place for a value is an ellipsis."""
    texts = []
    for path in (ROOT / "streamer").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.JoinedStr):
                parts = (str(p.value) if isinstance(p, ast.Constant) else "…" for p in node.values)
                texts.append("".join(parts))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                texts.append(node.value)
    return "\n".join(" ".join(text.split()) for text in texts)


SAID = said()


def test_there_is_much_to_check() -> None:
    assert len(QUOTED) > 30


@pytest.mark.parametrize("text", sorted(set(QUOTED) - METRICS))
def test_the_program_says_what_is_quoted(text: str) -> None:
    for part in filter(None, (part.strip(" ;,.'") for part in re.split("[…():]", text))):
        assert part in SAID


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\]\(([^)]+)\)", PAGE))))
def test_a_link_leads_somewhere(target: str) -> None:
    file, _, anchor = target.partition("#")
    text = (ROOT / "docs" / file).read_text()
    headings = {
        re.sub(r"[^\w -]", "", line.lstrip("# ")).lower().replace(" ", "-")
        for line in text.splitlines()
        if line.startswith("#")
    }
    assert not anchor or anchor in headings
