"""What is generated next to the chart's values: the schema of `config`, and the table in the chart's README.

The comments have the form that helm-docs reads: `# -- text` above a key, which may go on in further comment lines.
"""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import yaml

from tools.settings_docs.reference import schema as settings_schema

_DEFINITION = "config"
_LOOKAHEAD = re.compile(r"\(\?![^()]*\)")
_NOTES = {"title", "default", "examples"}
_BY_NAME = {"properties", "patternProperties"}
README = """\
# falco-streamer

Helm chart. `helm install` needs `config.cluster` and `config.kafka.bootstrap_servers`;
[deployment](../../../docs/deployment.md#helm) has the steps. All keys of `config`:
[configuration](../../../docs/configuration.md).

## Values

| Key | Type | Default | Description |
|-----|------|---------|-------------|
"""


class Value(NamedTuple):
    """One row of the table."""

    key: str
    default: Any
    description: str

    @property
    def type(self) -> str:
        """The type as helm-docs names it."""
        kinds = {bool: "bool", int: "int", str: "string", list: "list", dict: "object"}
        return kinds[type(self.default)]

    def __str__(self) -> str:
        default = json.dumps(self.default, ensure_ascii=False).replace("|", "\\|")
        return f"| {self.key} | {self.type} | `{default}` | {self.description} |"


def with_settings(values_schema: str) -> str:
    """The text of values.schema.json with the definitions of `config` made of the settings' own schema."""
    schema = json.loads(values_schema)
    settings = json.loads(settings_schema())
    own = {name: one for name, one in schema["$defs"].items() if not name.startswith(_DEFINITION)}
    made = {f"{_DEFINITION}.{name}": _for_helm(one) for name, one in settings.pop("$defs").items()}
    top = _for_helm({key: settings[key] for key in ("type", "additionalProperties", "properties")})
    # The chart's own default, for which it has a message of its own.
    top["properties"]["cluster"]["anyOf"].append({"const": ""})
    schema["$defs"] = {**own, _DEFINITION: top, **made}
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def readme(values: str) -> str:
    """The text of the chart's README.md."""
    return README + "".join(f"{row}\n" for row in rows(values))


def rows(values: str) -> Iterator[Value]:
    """The described keys of values.yaml, in their order; ValueError names one that has no description."""
    root = yaml.compose(values, Loader=yaml.SafeLoader)
    assert isinstance(root, yaml.MappingNode)
    yield from _rows(root, yaml.safe_load(values), values.splitlines(), "", described=False)


def _rows(
    node: yaml.MappingNode, given: Mapping[str, Any], lines: list[str], path: str, *, described: bool
) -> Iterator[Value]:
    for key, value in node.value:
        name, text = f"{path}{key.value}", _description(lines, key.start_mark.line)
        found = given[key.value]
        if text:
            yield Value(name, found, text)
        if isinstance(value, yaml.MappingNode) and value.value:
            yield from _rows(value, found, lines, f"{name}.", described=described or bool(text))
        elif not text and not described:
            raise ValueError(f"{name} has no description")


def _description(lines: list[str], at: int) -> str:
    found: list[str] = []
    while at and lines[at - 1].lstrip().startswith("#"):
        at -= 1
        line = lines[at].strip().removeprefix("#").strip()
        if line.startswith("-- "):
            return " ".join([line.removeprefix("-- "), *reversed(found)])
        found.append(line)
    return ""


def _for_helm(schema: Any) -> Any:
    """The same without notes, with references into the chart's schema, and patterns that Go can compile."""
    if isinstance(schema, list):
        return [_for_helm(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    made: dict[str, Any] = {
        key: {name: _for_helm(one) for name, one in value.items()} if key in _BY_NAME else _for_helm(value)
        for key, value in schema.items()
        if key not in _NOTES
    }
    if "$ref" in made:
        made["$ref"] = made["$ref"].replace("#/$defs/", f"#/$defs/{_DEFINITION}.")
    if "pattern" in made:
        made["pattern"] = _LOOKAHEAD.sub("", made["pattern"])
    return made
