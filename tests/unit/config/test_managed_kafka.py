"""The configurations of docs/managed-kafka.md are valid, and within what each service documents."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from streamer.cli import main
from streamer.config import Settings

PAGE = (Path(__file__).parents[3] / "docs/managed-kafka.md").read_text()
BLOCKS = dict(
    zip(
        ("msk", "msk serverless", "confluent cloud", "aiven", "event hubs", "redpanda"),
        re.findall(r"^```yaml\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE),
        strict=True,
    )
)
SERVERLESS = {
    *("cleanup.policy", "compression.type", "max.message.bytes", "retention.bytes", "retention.ms"),
    *("message.timestamp.type", "message.timestamp.difference.max.ms"),
}


@pytest.mark.parametrize("service", BLOCKS)
def test_check_accepts_it(service: str, tmp_path: Path) -> None:
    config = tmp_path / "streamer.yaml"
    config.write_text(BLOCKS[service])
    done = CliRunner().invoke(main, ["check", "--config", str(config)])
    assert done.exit_code == 0, done.output


def settings(service: str) -> Settings:
    return Settings.model_validate(yaml.safe_load(BLOCKS[service]))


def test_msk_serverless_is_asked_for_no_setting_that_it_does_not_have() -> None:
    assert {name for spec in settings("msk serverless").topic_specs for name in spec.config} <= SERVERLESS


def test_event_hubs_has_room_for_the_topics_and_takes_their_names() -> None:
    names = [spec.name for spec in settings("event hubs").topic_specs]
    assert len(names) <= 10
    assert all(name[0].isalnum() and name[-1].isalnum() for name in names)


def test_no_default_topic_begins_with_an_underscore() -> None:
    assert not [spec.name for spec in Settings(cluster="a").topic_specs if spec.name.startswith("_")]
