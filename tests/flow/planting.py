"""Faults in our own code, planted by a test: a function raises where its arguments are bad."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

SECRET = "rm -rf /secret"


class PlantedError(Exception):
    """Its text is an alert's, as that of any exception may be."""


def plant(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, is_bad: Callable[..., bool]) -> None:
    """Let a function raise where its arguments are bad."""
    sound = getattr(owner, name)

    def planted(*arguments: Any, **named: Any) -> Any:
        if is_bad(*arguments):
            raise PlantedError(SECRET)
        return sound(*arguments, **named)

    monkeypatch.setattr(owner, name, planted)


def said(logs: list[Any], event: str) -> list[Any]:
    """The messages of one name; none that is no debug message may have an alert's text."""
    assert SECRET not in str([one for one in logs if one["log_level"] != "debug"])
    return [one for one in logs if one["event"] == event]
