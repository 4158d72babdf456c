"""Exit codes, as sysexits.h has them where it has one."""

from typing import Final

FAILED: Final = 1
USAGE: Final = 2
UNAVAILABLE: Final = 69
CONFIG: Final = 78
