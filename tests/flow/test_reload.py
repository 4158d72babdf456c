"""The configuration's file as it changes: mounted, swapped, broken, mended."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, MutableMapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from streamer.config import Settings, load
from streamer.reload import Reload, ReloadError
from streamer.telemetry.metrics import REGISTRY
from tests.testbed.mounted import MountedVolume

BASE = "cluster: prod\nkafka: {bootstrap_servers: ['kafka:9092']}\n"


class ConfigMap:
    """A mounted ConfigMap with one file."""

    def __init__(self, folder: Path) -> None:
        self._volume = MountedVolume(folder)
        self.path = folder / "streamer.yaml"

    def write(self, text: str) -> None:
        self._volume.write({self.path.name: text.encode()})


class Applied:
    """Where settings take effect."""

    def __init__(self) -> None:
        self.settings: list[Settings] = []
        self.refuse = ""
        self.fault: Exception | None = None
        self.tries = 0

    async def __call__(self, settings: Settings) -> None:
        self.tries += 1
        if self.fault is not None:
            raise self.fault
        if self.refuse:
            raise ReloadError(self.refuse)
        self.settings.append(settings)


@asynccontextmanager
async def reloading(path: Path, applied: Applied, look_seconds: float = 0.01) -> AsyncIterator[Reload]:
    reload = Reload(load(path, (), {}), path, look_seconds=look_seconds)
    async with reload.watching(applied):
        yield reload


async def until(told: list[MutableMapping[str, Any]], *events: str) -> None:
    async with asyncio.timeout(10):
        while [event["event"] for event in told] != list(events):  # noqa: ASYNC110 - nothing announces a log
            await asyncio.sleep(0.01)


def successful() -> float | None:
    return REGISTRY.get_sample_value("falco_streamer_config_last_reload_successful")


def restart_needed() -> float | None:
    return REGISTRY.get_sample_value("falco_streamer_config_restart_needed")


class Reloads:
    """How often the file was read again, since the test began."""

    def __init__(self) -> None:
        self._before = self._counted()

    @staticmethod
    def _counted() -> list[float]:
        name = "falco_streamer_config_reloads_total"
        return [REGISTRY.get_sample_value(name, {"result": result}) or 0 for result in ("taken", "refused")]

    @property
    def taken_and_refused(self) -> list[float]:
        return [now - before for now, before in zip(self._counted(), self._before, strict=True)]


@pytest.fixture
def mounted(tmp_path: Path) -> ConfigMap:
    made = ConfigMap(tmp_path)
    made.write(BASE)
    return made


async def test_a_mounted_configmap_that_is_swapped_takes_effect_and_the_change_is_told(
    mounted: ConfigMap,
) -> None:
    applied = Applied()
    with capture_logs() as told:
        async with reloading(mounted.path, applied) as reload:
            mounted.write(BASE + "limits: {burst: 7}\n")
            await until(told, "config_reloaded")
    assert told[0]["changed"] == ["limits.burst: 300 -> 7"]
    assert [settings.limits.burst for settings in applied.settings] == [7]
    assert reload.settings.limits.burst == 7
    assert successful() == 1


async def test_a_faulty_file_keeps_what_was_before_and_says_so_until_it_is_mended(mounted: ConfigMap) -> None:
    applied, reloads = Applied(), Reloads()
    with capture_logs() as told:
        async with reloading(mounted.path, applied) as reload:
            mounted.write(BASE + "limits: {burst: -1}\nno_such_key: 1\n")
            await until(told, "config_refused")
            assert "limits" in str(told[0]["cause"])
            assert "no_such_key" in str(told[0]["detail"])  # all faults are in it
            assert reload.trouble.startswith("the file is refused, what was before it stays in effect: ")
            assert successful() == 0
            assert reloads.taken_and_refused == [0, 1]
            assert applied.settings == []
            mounted.write(BASE + "limits: {burst: 8}\n")
            await until(told, "config_refused", "config_reloaded")
            assert reload.trouble == ""
            assert successful() == 1
            assert reloads.taken_and_refused == [1, 1]
    assert [settings.limits.burst for settings in applied.settings] == [8]


async def test_what_cannot_be_used_here_and_now_is_refused_as_a_whole_and_tried_until_it_can(
    mounted: ConfigMap,
) -> None:
    applied, reloads = Applied(), Reloads()
    applied.refuse = "topic falco.shells does not exist"
    with capture_logs() as told:
        async with reloading(mounted.path, applied) as reload:
            mounted.write(BASE + "limits: {burst: 7}\n")
            await until(told, "config_refused")
            assert "falco.shells" in reload.trouble
            assert reload.settings.limits.burst == 300
            tries = applied.tries
            while applied.tries < tries + 3:  # noqa: ASYNC110 - nothing is said of what is known
                await asyncio.sleep(0.01)
            applied.refuse = "Kafka is away"
            await until(told, "config_refused", "config_refused")
            applied.refuse = ""
            await until(told, "config_refused", "config_refused", "config_reloaded")
            assert reload.trouble == ""
    assert [settings.limits.burst for settings in applied.settings] == [7]
    assert reloads.taken_and_refused == [1, 2]


async def test_a_fault_of_ours_is_told_and_the_next_change_is_taken(mounted: ConfigMap) -> None:
    applied, reloads = Applied(), Reloads()
    applied.fault = ZeroDivisionError("ours")
    with capture_logs() as told:
        async with reloading(mounted.path, applied) as reload:
            mounted.write(BASE + "limits: {burst: 7}\n")
            await until(told, "reload_failed", "failure_cause")
            assert reload.trouble == "the file could not be taken, for a fault of ours: ZeroDivisionError"
            assert successful() == 0
            applied.fault = None
            mounted.write(BASE + "limits: {burst: 8}\n")
            await until(told, "reload_failed", "failure_cause", "config_reloaded")
            assert reload.trouble == ""
    assert [settings.limits.burst for settings in applied.settings] == [8]
    assert reloads.taken_and_refused == [1, 1]


async def test_keys_that_need_a_restart_say_so_and_the_others_take_effect(mounted: ConfigMap) -> None:
    applied = Applied()
    with capture_logs() as told:
        async with reloading(mounted.path, applied) as reload:
            mounted.write(BASE.replace("}", ", shards: 4}") + "limits: {burst: 7}\n")
            await until(told, "config_reloaded", "config_needs_restart")
            assert reload.trouble == "a restart is needed for kafka.shards"
            assert restart_needed() == 1
            mounted.write(BASE)
            await until(told, "config_reloaded", "config_needs_restart", "config_reloaded")
            assert restart_needed() == 0
    assert told[1]["changed"] == ["kafka.shards: 8 -> 4"]
    assert applied.settings[0].kafka.shards == 8


async def test_a_change_between_the_first_reading_and_the_first_look_is_taken(mounted: ConfigMap) -> None:
    applied, settings = Applied(), load(mounted.path, (), {})
    mounted.write(BASE + "limits: {burst: 7}\n")
    reload = Reload(settings, mounted.path, look_seconds=0.01)
    with capture_logs() as told:
        async with reload.watching(applied):
            await until(told, "config_reloaded")
    assert reload.settings.limits.burst == 7


async def test_of_a_file_that_stays_as_it_is_nothing_is_said(mounted: ConfigMap) -> None:
    applied, reloads = Applied(), Reloads()
    with capture_logs() as told:
        async with reloading(mounted.path, applied, look_seconds=0.001):
            await asyncio.sleep(0.05)
            mounted.write(BASE)  # another file that says the same bytes
            await asyncio.sleep(0.05)
    assert told == []
    assert reloads.taken_and_refused == [0, 0]


async def test_sighup_reads_the_file_at_once(mounted: ConfigMap) -> None:
    applied = Applied()
    with capture_logs() as told:
        async with reloading(mounted.path, applied, look_seconds=3600):
            mounted.write(BASE + "limits: {burst: 7}\n")
            os.kill(os.getpid(), signal.SIGHUP)
            await until(told, "config_reloaded")
            os.kill(os.getpid(), signal.SIGHUP)
            await until(told, "config_reloaded", "config_unchanged")


async def test_a_file_that_is_gone_for_a_moment_changes_nothing(mounted: ConfigMap) -> None:
    applied = Applied()
    with capture_logs() as told:
        async with reloading(mounted.path, applied) as reload:
            text = mounted.path.read_text()
            mounted.path.unlink()
            await until(told, "config_refused")
            mounted.path.write_text(text)
            await until(told, "config_refused", "config_unchanged")
    assert reload.trouble == ""
    assert applied.settings == []
