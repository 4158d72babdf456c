"""Which form of the core runs: compiled, as in the image, or Python."""

from __future__ import annotations

from importlib.machinery import EXTENSION_SUFFIXES
from importlib.util import find_spec
from typing import Final, Literal

Core = Literal["compiled", "python"]


def _core() -> Core:
    """One module stands for all: a wheel has them compiled together, or none (hatch_build.py)."""
    spec = find_spec("streamer.transform.outcome")
    origin = (spec and spec.origin) or ""
    return "compiled" if origin.endswith(tuple(EXTENSION_SUFFIXES)) else "python"


CORE: Final = _core()
