"""What all tests share: how hypothesis searches, and a log as it is before anybody sets it up."""

import os
from collections.abc import Iterator

import pytest
import structlog
from hypothesis import settings

settings.register_profile("search", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "search")


@pytest.fixture(autouse=True)
def unconfigured_log() -> Iterator[None]:
    """A command that ran in the test's own process has set up the log."""
    yield
    structlog.reset_defaults()
