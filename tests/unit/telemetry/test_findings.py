"""What is written about alerts: sources, and of rules and fields nothing above level debug."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

from structlog.testing import capture_logs

from streamer.model import Publication
from streamer.telemetry.findings import Findings
from tests.unit.transform.samples import FALCO


def written(findings: Findings, source: str, rule: str = "a rule") -> list[MutableMapping[str, Any]]:
    publication = Publication()
    publication.volatile_fields.append((FALCO, source, rule, ("acme.id",)))
    with capture_logs() as logs:
        findings.report(publication)
    return logs


def warnings(logs: list[MutableMapping[str, Any]]) -> list[MutableMapping[str, Any]]:
    return [entry for entry in logs if entry["log_level"] != "debug"]


def test_a_warning_names_the_source_and_neither_rule_nor_fields() -> None:
    [entry] = warnings(written(Findings(), "acme", "rm -rf / by an attacker"))
    assert (entry["event"], entry["source"], entry["example"]) == ("volatile_fields", "acme", FALCO.pod_name)
    assert not [key for key, value in entry.items() if "attacker" in str(value) or "acme.id" in str(value)]


def test_debug_names_rule_and_fields_each_time() -> None:
    findings = Findings()
    for _ in range(2):
        [entry] = [entry for entry in written(findings, "acme") if entry["log_level"] == "debug"]
        assert (entry["rule"], entry["fields"]) == ("a rule", ("acme.id",))


def test_a_source_is_warned_of_once_an_hour() -> None:
    now = [0.0]
    findings = Findings(lambda: now[0])
    assert warnings(written(findings, "acme"))
    now[0] = 3599.0
    assert not warnings(written(findings, "acme", "another rule"))
    assert warnings(written(findings, "other"))
    now[0] = 3600.0
    assert warnings(written(findings, "acme"))


def test_whoever_invents_sources_cannot_flood_the_log() -> None:
    findings = Findings(lambda: 0.0)
    assert sum(bool(warnings(written(findings, f"source {n}"))) for n in range(500)) == 32
