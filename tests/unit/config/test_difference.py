"""What a reload changes, key by key, and which of it waits for a restart."""

from __future__ import annotations

from pathlib import Path

import pytest

from streamer.config import Settings, load
from streamer.config.difference import differences, merged


def of(*pairs: str) -> Settings:
    return load(None, ["cluster=prod", "kafka.bootstrap_servers=kafka:9092", *pairs], {})


def file_of(folder: Path, text: str) -> Settings:
    path = folder / "streamer.yaml"
    path.write_text(text)
    return load(path, ["cluster=prod", "kafka.bootstrap_servers=kafka:9092"], {})


def test_equal_settings_have_no_difference() -> None:
    assert differences(of(), of()) == []


def test_each_key_is_told_with_what_it_was_and_what_it_is() -> None:
    found = differences(of(), of("limits.burst=7", "dedupe.max_variants=3"))
    assert [str(one) for one in found] == ["dedupe.max_variants: 10 -> 3", "limits.burst: 300 -> 7"]
    assert all(one.reloadable for one in found)


def test_lists_and_mappings_are_told_by_their_parts(tmp_path: Path) -> None:
    text = 'filters: [{action: drop, match: [\'rule = "%s"\'], reason: "noise"}]'
    before, after = file_of(tmp_path, text % "one"), file_of(tmp_path, text % "two")
    assert [one.key for one in differences(before, after)] == ["filters[0].match[0]"]
    (added,) = differences(of(), before)
    assert added.key == "filters"
    assert added.reloadable


def test_secrets_are_never_shown() -> None:
    sasl = ("kafka.security.protocol=sasl_ssl", "kafka.security.sasl.username=u")
    found = differences(
        of(*sasl, "kafka.security.sasl.password=hunter2"), of(*sasl, "kafka.security.sasl.password=correct")
    )
    assert [str(one) for one in found] == ["kafka.security.sasl.password: (secret) -> (secret)"]


@pytest.mark.parametrize(
    "pair", ["kafka.shards=4", "kubernetes.container=other", "topics.prefix=x", "http.port=9"]
)
def test_what_needs_a_restart_is_not_merged(pair: str) -> None:
    running, wanted = of(), of(pair, "limits.burst=7")
    settings = merged(running, wanted)
    assert settings.limits.burst == 7
    assert [one.key for one in differences(running, settings)] == ["limits.burst"]
    assert [one.reloadable for one in differences(settings, wanted)] == [False]


@pytest.mark.parametrize(
    "pair",
    [
        "log.level=debug",
        "health.coverage_seconds=60",
        "min_priority=warning",
        "records.fields.team=platform",
        "shutdown.grace_seconds=9",
        "kafka.commit.interval_seconds=1",
    ],
)
def test_what_needs_no_restart_is_merged_also_below_a_section_that_does(pair: str) -> None:
    running, wanted = of(), of(pair, "kafka.shards=4", "kafka.client_id=other")
    settings = merged(running, wanted)
    assert [(one.key, one.reloadable) for one in differences(running, settings)] == [
        (pair.partition("=")[0], True)
    ]
    assert [one.key for one in differences(settings, wanted)] == ["kafka.client_id", "kafka.shards"]


def test_topics_of_merged_settings_are_those_of_what_runs() -> None:
    running = of()
    assert running.topic_names.overflow == "falco.overflow"  # and is remembered
    route = "routes=[{match: ['rule = \"x\"'], topic: <prefix>.more}]"
    settings = merged(running, of("topics.prefix=x", route))
    assert settings.topic_names.routes == ("falco.more",)
    assert "falco.more" in {spec.name for spec in settings.topic_specs}
