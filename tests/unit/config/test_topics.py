from __future__ import annotations

import pytest
from pydantic import ValidationError

from streamer.config import Settings
from streamer.model import Priority


def settings(**given: object) -> Settings:
    return Settings.model_validate({"cluster": "prod-1", **given})


def test_default_names() -> None:
    names = settings().topic_names
    assert names.alert_topic(Priority.EMERGENCY) == "falco.alerts.emergency"
    assert names.by_priority() == {priority: f"falco.alerts.{priority.label}" for priority in Priority}
    assert (names.overflow, names.dead_letter, names.health) == (
        "falco.overflow",
        "falco.dead-letter",
        "falco.health",
    )
    assert names.state == "falco-streamer.prod-1.state"
    assert len(names.all_topics()) == 13


def test_places_are_filled_in_and_topics_may_be_shared() -> None:
    given = settings(
        topics={
            "prefix": "sec",
            "alerts": {"critical": "<prefix>.<cluster>.page", "alert": "sec.prod-1.page"},
        },
        routes=[
            {"match": 'tags = "shell"', "topic": "<prefix>.shells"},
            {"match": 'tags = "x"', "topic": "other"},
        ],
    )
    names = given.topic_names
    assert names.alert_topic(Priority.CRITICAL) == names.alert_topic(Priority.ALERT) == "sec.prod-1.page"
    assert names.routes == ("sec.shells", "other")
    assert names.all_topics()["other"] == "alerts"
    assert len(names.all_topics()) == 14


@pytest.mark.parametrize("pattern", ["<prefix>.<cluster>.<priority>", "<priority>", "one.for.all"])
def test_one_pattern_names_the_topics_of_all_priorities(pattern: str) -> None:
    by_text = settings(topics={"alerts": pattern}).topic_names
    by_keys = settings(topics={"alerts": {each.label: pattern for each in Priority}}).topic_names
    filled = pattern.replace("<prefix>", "falco").replace("<cluster>", "prod-1")
    assert by_text.by_priority() == {each: filled.replace("<priority>", each.label) for each in Priority}
    assert by_text.by_priority() == by_keys.by_priority()


def test_a_fault_in_the_pattern_is_one_error() -> None:
    with pytest.raises(ValidationError) as caught:
        settings(topics={"alerts": "a b.<priority>"})
    assert [fault["loc"] for fault in caught.value.errors()] == [("topics", "alerts")]


@pytest.mark.parametrize(
    "given",
    [{"topics": {"overflow": "x.<priority>"}}, {"routes": [{"match": {"tags": "x"}, "topic": "<priority>"}]}],
)
def test_only_the_topics_of_priorities_have_one_in_their_names(given: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match="the places `<prefix>` and `<cluster>`"):
        settings(**given)


def test_summaries_have_a_topic_of_their_own() -> None:
    given = settings()
    assert given.topic_names.summaries == "falco.summaries"
    assert {spec.name: spec.kind for spec in given.topic_specs}["falco.summaries"] == "summaries"
    assert given.topic_specs[-1].kind == "state"


def test_specs_say_how_each_topic_is_made() -> None:
    given = settings(kafka={"shards": 3}, topics={"partitions": 6, "replication_factor": 2})
    specs = {spec.name: spec for spec in given.topic_specs}
    assert list(specs) == list(given.topic_names.all_topics())
    state = specs["falco-streamer.prod-1.state"]
    assert (state.kind, state.partitions, state.replication_factor) == ("state", 3, 2)
    assert state.config["cleanup.policy"] == "compact"
    assert specs["falco.alerts.debug"].partitions == 6
    assert specs["falco.dead-letter"].config == {"cleanup.policy": "delete", "retention.ms": "604800000"}


def test_a_name_too_long_for_kafka_is_refused() -> None:
    assert settings(topics={"state": "x" * 249}).topic_names.state == "x" * 249
    with pytest.raises(ValidationError, match="not a legal topic name"):
        settings(topics={"state": "x" * 250})


@pytest.mark.parametrize("shared", ["alerts", "overflow", "health"])
def test_the_state_topic_is_apart_from_all_others(shared: str) -> None:
    other = {"alerts": {"debug": "mine"}} if shared == "alerts" else {shared: "mine"}
    with pytest.raises(ValidationError, match="must be apart from all others"):
        settings(topics={"state": "mine", **other})
    with pytest.raises(ValidationError, match="must be apart from all others"):
        settings(routes=[{"match": 'tags = "x"', "topic": "falco-streamer.<cluster>.state"}])


def test_settings_are_frozen_and_know_no_other_keys() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        settings().cluster = "other"
    with pytest.raises(ValidationError, match="extra"):
        settings(limit={})
