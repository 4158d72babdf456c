import collections
import datetime as dt
import json
import re
import statistics
from typing import Any

import orjson
import pytest

from streamer.simulator import AlertGenerator
from streamer.simulator.falco_text import broken, crlf, exit_lines, log_line, startup_lines, text_alert

START = 1_795_168_800_123_456_789  # 2026-11-20T10:00:00.123456789Z
PRIORITIES = {
    "Emergency", "Alert", "Critical", "Error", "Warning", "Notice", "Informational", "Debug",
}  # fmt: skip


@pytest.fixture(scope="module")
def lines() -> list[bytes]:
    generator = AlertGenerator(1)
    return [generator.alert(START + n * 1_000_003, f"node-{n % 7}") for n in range(30_000)]


@pytest.fixture(scope="module")
def alerts(lines: list[bytes]) -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in lines]


def leaves(alerts: list[dict[str, Any]]) -> list[Any]:
    return [value for alert in alerts for value in alert["output_fields"].values()]


def test_the_same_seed_gives_the_same_alerts_and_another_others(lines: list[bytes]) -> None:
    again, other = AlertGenerator(1), AlertGenerator(2)
    assert [again.alert(START + n * 1_000_003, f"node-{n % 7}") for n in range(500)] == lines[:500]
    assert [other.alert(START + n * 1_000_003, f"node-{n % 7}") for n in range(500)] != lines[:500]


def test_the_bytes_are_those_of_falcos_writer(lines: list[bytes], alerts: list[dict[str, Any]]) -> None:
    for line, alert in zip(lines, alerts, strict=True):
        assert orjson.dumps(alert, option=orjson.OPT_SORT_KEYS) == line
        assert b"@<" not in line
        assert b"#<" not in line


def test_every_key_says_the_same_moment(alerts: list[dict[str, Any]]) -> None:
    for n, alert in enumerate(alerts):
        time_ns = START + n * 1_000_003
        at = dt.datetime.fromtimestamp(time_ns // 1_000_000_000, dt.UTC)
        fraction = f"{time_ns % 1_000_000_000:09d}"
        assert alert["time"] == f"{at:%Y-%m-%dT%H:%M:%S}.{fraction}Z"
        assert alert["hostname"] == f"node-{n % 7}"
        if alert["source"] != "internal":
            assert alert["output"].startswith(f"{at:%H:%M:%S}.{fraction}: {alert['priority']} ")
            assert alert["output_fields"]["evt.time"] == time_ns
            assert alert["tags"] == sorted(set(alert["tags"]))


def test_all_priorities_sources_and_many_rules_come(alerts: list[dict[str, Any]]) -> None:
    assert {alert["priority"] for alert in alerts} == PRIORITIES
    assert {alert["source"] for alert in alerts} == {"syscall", "k8s_audit", "internal"}
    rules = {alert["rule"] for alert in alerts}
    assert len(rules) >= 20
    assert {
        "Terminal shell in container",
        "Read sensitive file untrusted",
        "Contact K8S API Server From Container",
        "Drop and execute new binary in container",
        "Run shell untrusted",
        "Falco internal: syscall event drop",
    } <= rules


def test_a_rule_has_one_priority_and_one_source(alerts: list[dict[str, Any]]) -> None:
    kinds = {(alert["rule"], alert["priority"], alert["source"]) for alert in alerts}
    assert len(kinds) == len({rule for rule, *_ in kinds})


def test_values_are_of_every_type_that_falco_writes(alerts: list[dict[str, Any]]) -> None:
    values = leaves(alerts)
    assert {type(value) for value in values} == {str, int, float, bool, list, type(None)}
    integers = [value for value in values if type(value) is int]
    assert max(integers) > 2**63
    assert min(integers) == -1
    assert 2**32 - 1 in integers
    assert "<NA>" in values


def test_texts_hold_what_makes_parsers_stumble(lines: list[bytes]) -> None:
    text = b"".join(lines).decode()
    for needed in ("ü", "ファイル", '\\"', "\\\\t", "\\t/srv", "'", "%", "{print $3}"):
        assert needed in text


def test_internal_drops_have_no_tags_no_time_in_output_and_counters_as_strings(
    alerts: list[dict[str, Any]],
) -> None:
    drops = [alert for alert in alerts if alert["source"] == "internal"]
    assert drops
    for drop in drops:
        assert "tags" not in drop
        assert re.fullmatch(
            r"Falco internal: syscall event drop\. \d+ system calls dropped in last second\.", drop["output"]
        )
        fields = drop["output_fields"]
        assert all(re.fullmatch(r"\d+", count) for count in fields.values())
        assert int(fields["n_drops"]) < int(fields["n_evts"])


def test_audit_alerts_have_no_container(alerts: list[dict[str, Any]]) -> None:
    audits = [alert for alert in alerts if alert["source"] == "k8s_audit"]
    assert audits
    for alert in audits:
        assert all(key.startswith(("ka.", "jevt.", "evt.")) for key in alert["output_fields"])


def test_client_ports_change_and_agree_with_the_connection(alerts: list[dict[str, Any]]) -> None:
    contacts = [a["output_fields"] for a in alerts if a["rule"] == "Contact K8S API Server From Container"]
    assert len({fields["fd.lport"] for fields in contacts}) > 1000
    for fields in contacts:
        assert fields["fd.name"].endswith(f":{fields['fd.lport']}->10.96.0.1:{fields['fd.rport']}")


def test_a_few_combinations_make_most_lines(alerts: list[dict[str, Any]]) -> None:
    counts = collections.Counter(
        (a["rule"], a["output_fields"].get("proc.name"), a["output_fields"].get("k8s.ns.name"))
        for a in alerts
    )
    assert sum(count for _, count in counts.most_common(10)) > len(alerts) / 2
    assert len(counts) > 200


def test_lines_are_as_long_as_real_ones(lines: list[bytes]) -> None:
    lengths = sorted(map(len, lines))
    assert 1300 < statistics.median(lengths) < 1700
    assert 2000 < lengths[len(lengths) * 99 // 100] < 6500
    long = sum(length > 16_384 for length in lengths)
    assert 0 < long < len(lengths) / 200


def test_pods_on_one_node_are_always_the_same(alerts: list[dict[str, Any]]) -> None:
    nodes: dict[str, set[str]] = collections.defaultdict(set)
    for alert in alerts:
        pod = alert["output_fields"].get("k8s.pod.name") or ""
        if re.fullmatch(r"fluent-bit-\w{5}", pod):
            nodes[alert["hostname"]].add(pod)
    assert len(nodes) == 7
    assert all(len(pods) == 1 for pods in nodes.values())
    assert len(set.union(*nodes.values())) == 7


@pytest.mark.parametrize(
    ("version", "missing"),
    [
        ((0, 44), set()),
        ((0, 38), set()),
        ((0, 32), {"hostname"}),
        ((0, 29), {"hostname", "source", "tags"}),
    ],
)
def test_older_falcos_lack_keys(version: tuple[int, int], missing: set[str]) -> None:
    generator = AlertGenerator(3, version=version, sources=("syscall",))
    usual = {"hostname", "output", "output_fields", "priority", "rule", "source", "tags", "time"}
    for n in range(200):
        assert set(json.loads(generator.alert(START + n, "node-1"))) == usual - missing


def test_before_0_39_the_fields_come_last_and_other_letters_are_escaped() -> None:
    generator = AlertGenerator(3, version=(0, 38))
    lines = [generator.alert(START, "node-1") for _ in range(2000)]
    assert all(line.isascii() for line in lines)
    assert any(b"\\u00fc" in line for line in lines)
    assert all(re.search(rb',"time":"[^"]+Z", "output_fields": \{.*\}\}$', line) for line in lines)


def test_the_containers_zone_shows_in_output_alone() -> None:
    line = orjson.loads(AlertGenerator(1, utc_offset_minutes=330, sources=("syscall",)).alert(START, "n"))
    assert line["output"].startswith("15:30:00.123456789: ")
    assert line["time"] == "2026-11-20T10:00:00.123456789Z"


def test_the_message_is_the_output_without_its_beginning() -> None:
    generator = AlertGenerator(1, message_key=True, sources=("syscall",))
    for _ in range(50):
        alert = orjson.loads(generator.alert(START, "n"))
        assert alert["output"] == f"10:00:00.123456789: {alert['priority']} {alert['message']}"


def test_sources_can_be_chosen_and_none_is_an_error() -> None:
    generator = AlertGenerator(1, sources=("k8s_audit",))
    assert {orjson.loads(generator.alert(START, "n"))["source"] for _ in range(500)} == {"k8s_audit"}
    with pytest.raises(ValueError, match="no alerts"):
        AlertGenerator(1, sources=())


def test_the_other_lines_look_as_falco_prints_them() -> None:
    assert startup_lines(START)[0] == b"Fri Nov 20 10:00:00 2026: Falco version: 0.44.1 (x86_64)"
    assert log_line(START - 15 * 86_400_000_000_000, "x") == b"Thu Nov  5 10:00:00 2026: x"
    text = text_alert(START, priority="Critical", message="A thing | k=v")
    assert text == b"10:00:00.123456789: Critical A thing | k=v"
    statistics_lines = exit_lines(START, {"Notice": 2, "Informational": 1}, {"A rule": 3}, drops=4)
    assert b"Events detected: 3" in statistics_lines
    assert b"   INFO: 1" in statistics_lines
    assert b"   A rule: 3" in statistics_lines
    assert crlf(b"{}") == b"{}\r"


def test_a_broken_alert_begins_like_one_and_is_none(lines: list[bytes]) -> None:
    for line in lines[:100]:
        damaged = broken(line)
        assert damaged.startswith(b"{")
        with pytest.raises(orjson.JSONDecodeError):
            orjson.loads(damaged)
