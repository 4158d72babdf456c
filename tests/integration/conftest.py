"""Fixtures of real parts. Each part is built at its first use and started once for all tests of a run."""

import contextlib
import os
from collections.abc import Iterator

import pytest

from tests.testbed import PartMissing
from tests.testbed.kafka import ExternalKafka, Kafka


@contextlib.contextmanager
def parts_or_skip() -> Iterator[None]:
    """Turn a missing toolchain into a skip, but never in CI: there a green run has to mean that it ran."""
    try:
        yield
    except PartMissing as missing:
        if os.environ.get("CI") == "true":
            pytest.fail(f"CI has to have every part of the test bed: {missing}", pytrace=False)
        pytest.skip(str(missing))


@pytest.fixture(scope="session")
def kafka() -> Iterator[Kafka]:
    """One broker for all tests: its topics have names of their own (create_topic), nobody stops it."""
    given = os.environ.get("TESTBED_KAFKA")
    with parts_or_skip(), ExternalKafka(given) if given else Kafka() as broker:
        yield broker


@pytest.fixture
def private_kafka() -> Iterator[Kafka]:
    """A broker for one test, which may stop, kill and freeze it (about 4 s)."""
    with parts_or_skip(), Kafka() as broker:
        yield broker
