"""What is generated from the models is what stands in config/."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from streamer.config import Settings, load
from streamer.config.outline import Shape, shape, unwrapped
from streamer.config.section import Section
from tools.settings_docs.__main__ import main

ROOT = Path(__file__).parents[3]
CONFIG = ROOT / "config"
EXAMPLES = sorted((CONFIG / "examples").glob("*.yaml"))
REFERENCE = CONFIG / "streamer.yaml"


def fields(model: type[Section], path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str]]:
    for name, info in model.model_fields.items():
        assert info.description, f"{model.__name__}.{name} has no description"
        yield (*path, name), info.description
        if shape(info.annotation) is Shape.SECTION:
            yield from fields(unwrapped(info.annotation), (*path, name))


@pytest.mark.parametrize(
    ("command", "file"),
    [
        ("reference", REFERENCE),
        ("schema", CONFIG / "streamer.schema.json"),
        ("manual", ROOT / "docs" / "configuration.md"),
    ],
)
def test_generated_files_are_up_to_date(command: str, file: Path) -> None:
    generated = CliRunner().invoke(main, [command]).output
    assert generated == file.read_text(encoding="utf-8"), (
        f"python -m tools.settings_docs {command} > {file.name}"
    )


def test_the_reference_holds_every_key_with_its_default_and_its_description() -> None:
    text = REFERENCE.read_text(encoding="utf-8")
    comments = re.sub(r"\s*\n\s*#\s*", " ", text)
    parsed = yaml.safe_load(text)
    for path, description in fields(Settings):
        here: Any = parsed
        for key in path:
            assert key in here, f"{'.'.join(path)} is missing"
            here = here[key]
        assert description in comments, ".".join(path)
    given = load(REFERENCE, environ={})
    required = {"cluster": "prod-eu-1", "kafka": {"bootstrap_servers": ["kafka:9092"]}}
    assert given == Settings.model_validate(required)


def test_the_manual_names_every_key_and_what_needs_a_restart() -> None:
    text = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    for path, description in fields(Settings):
        name = ".".join(path)
        assert f"| `{name}` |" in text or re.search(rf"^##+ {re.escape(name)}$", text, re.MULTILINE), name
        assert description.replace("|", "\\|") in text, name
    for name in ("filters", "records", "log", "health", "shutdown"):
        assert re.search(rf"^## {name}\n\n.*Takes effect at a reload", text, re.MULTILINE), name
    for name in ("kafka", "http"):
        assert re.search(rf"^## {name}\n\n.*Needs a restart", text, re.MULTILINE), name
    assert re.search(r"^### kafka\.commit\n\n.*Takes effect at a reload", text, re.MULTILINE)
    assert "*Needs a restart, all but `kafka.commit`.*" in text


def test_the_commented_examples_work(tmp_path: Path) -> None:
    text = REFERENCE.read_text(encoding="utf-8")
    # An example follows its list, which is empty by default; all of it begins with `#` in the first column.
    text, count = re.subn(
        r"^( *\w+:) \[\]\n((?:# .*\n)+)",
        lambda found: f"{found[1]}\n{re.sub('^# ', '', found[2], flags=re.MULTILINE)}",
        text,
        flags=re.MULTILINE,
    )
    assert count == 4
    path = tmp_path / "streamer.yaml"
    path.write_text(text, encoding="utf-8")
    settings = load(path, environ={})
    assert settings.routes[0].match[0] == 'rule =~ "Terminal shell.*"'
    assert settings.filters[0].match[1] == 'k8s.ns.name =~ "dev-.*"'
    assert settings.dedupe.overrides[0].max_variants == 100
    assert settings.limits.overrides[0].burst == 20


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_examples_load(example: Path) -> None:
    assert load(example, environ={"CLUSTER": "prod-eu-1"}).kafka.bootstrap_servers


def test_there_are_examples() -> None:
    assert {path.stem for path in EXAMPLES} >= {"minimal", "production", "quieter", "several-clusters"}


def test_the_example_against_noise_drops_what_it_means_to() -> None:
    settings = load(CONFIG / "examples" / "quieter.yaml", environ={})
    assert [rule.action for rule in settings.filters] == ["keep", "drop"]
    assert settings.topic_names.summaries == "falco.summaries"
    assert settings.dedupe.group_fields["okta"], "the other sources' defaults stay"


def test_the_production_example_is_secured() -> None:
    settings = load(CONFIG / "examples" / "production.yaml", environ={"CLUSTER": "prod-us-2"})
    assert settings.cluster == "prod-us-2"
    assert settings.kafka.security.protocol == "sasl_ssl"
    assert settings.topics.config.state["cleanup.policy"] == "compact"
    assert settings.topics.config.alerts["retention.ms"] == "2592000000"


def test_clusters_of_one_file_share_the_alerts_and_nothing_else() -> None:
    path = CONFIG / "examples" / "several-clusters.yaml"
    one, other = (load(path, environ={"CLUSTER": name}) for name in ("prod-eu-1", "prod-us-1"))
    names = [{spec.name for spec in settings.topic_specs} for settings in (one, other)]
    assert names[0] ^ names[1] == {one.topic_names.state, other.topic_names.state}
    assert one.kafka.security.sasl.oauth.client_id == "falco-streamer-prod-eu-1"


def test_the_schema_knows_units_bounds_and_variables() -> None:
    schema = json.loads((CONFIG / "streamer.schema.json").read_text(encoding="utf-8"))
    kafka = schema["$defs"]["Kafka"]
    assert kafka["additionalProperties"] is False
    number, variable = kafka["properties"]["shards"]["anyOf"]
    assert number == {"type": "integer", "minimum": 1, "maximum": 1024}
    assert re.search(variable["pattern"], "${SHARDS:-8}")
