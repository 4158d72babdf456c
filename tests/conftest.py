"""What all tests share: how hypothesis searches, and a log as it is before anybody sets it up."""

import os
import sys
from collections.abc import Iterator

import pytest
import structlog
from hypothesis import settings

settings.register_profile("search", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "search")


@pytest.fixture(autouse=True)
def unconfigured_log() -> Iterator[None]:
    """A command that ran in the test's own process has set up the log, for each module's logger and for good."""
    yield
    structlog.reset_defaults()
    for name, module in list(sys.modules.items()):
        if name.startswith("streamer") and (log := getattr(module, "log", None)) is not None:
            getattr(log, "__dict__", {}).pop("bind", None)  # the set-up, remembered
