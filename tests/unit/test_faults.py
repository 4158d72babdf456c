"""docs/faults.md names, for every fault, tests that exist."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROWS = re.findall(
    r"^\| (?!fault|input|---)(.+?) \| .+ \| (.*) \|$", (ROOT / "docs/faults.md").read_text(), re.MULTILINE
)
NAMED = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


@cache
def functions_of(path: str) -> frozenset[str]:
    """The test functions of a file, those of its classes too."""
    tree = ast.parse((ROOT / path).read_text())
    functions = (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    return frozenset(node.name for node in functions if node.name.startswith("test_"))


def test_the_page_has_its_tables() -> None:
    assert len(ROWS) > 40


@pytest.mark.parametrize(("fault", "tests"), ROWS, ids=[fault for fault, _ in ROWS])
def test_every_test_that_is_named_exists(fault: str, tests: str) -> None:
    named = NAMED.findall(tests)
    assert named, f"nothing tests: {fault}"
    assert len(named) == tests.count("`") // 2, "not everything in the last column is a test's name"
    for path, name in named:
        assert name in functions_of(path), f"{path} has no {name}"
