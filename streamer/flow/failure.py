"""What an exception says, for people: in one line, and without the numbers of some library's insides."""

from __future__ import annotations

import re
from typing import Final

_INSIDES: Final = re.compile(r"^\[[\w: ]+\] | \(_ssl\.c:\d+\)$")


def one_line(error: BaseException) -> str:
    """An exception in one line; its class where it says nothing itself."""
    text = str(error)
    if isinstance(error, OSError) and error.strerror:
        text = _INSIDES.sub("", error.strerror)
    return " ".join(text.split()) or type(error).__name__
