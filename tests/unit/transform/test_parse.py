from __future__ import annotations

import json

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.model import Alert, Malformed, Priority, Reason, TextClass, TextLine
from streamer.transform.parse import parse
from streamer.transform.stamp import StampReader
from tests.unit.strategies import ALERT_BODIES, BODIES, NEAR_ALERTS
from tests.unit.transform.samples import START_NS, alert

LINE_NS = START_NS + 500


def read(body: bytes) -> Alert | TextLine | Malformed:
    return parse(body, LINE_NS, StampReader())


def read_alert(body: bytes) -> Alert:
    found = read(body)
    assert isinstance(found, Alert), found
    return found


def reason(body: bytes) -> Reason | None:
    found = read(body)
    return found.reason if isinstance(found, Malformed) else None


def text_class(body: bytes) -> TextClass | None:
    found = read(body)
    return found.text_class if isinstance(found, TextLine) else None


class TestAnAlert:
    def test_is_read_with_all_its_facts(self) -> None:
        body = alert()
        found = read(body)
        assert isinstance(found, Alert)
        assert found.body == body
        assert found.rule == "Terminal shell in container"
        assert found.priority is Priority.NOTICE
        assert found.source == "syscall"
        assert (found.time, found.time_ns) == ("2026-11-20T10:00:00.000000000Z", START_NS)
        assert found.hostname == "node-1"
        assert found.tag_list == ["T1059", "container", "mitre_execution"]
        assert found.fields == orjson.loads(body)["output_fields"]

    @pytest.mark.parametrize(
        ("body", "source", "hostname"),
        [
            # up to 0.29: no source, no hostname, no tags
            (
                (
                    b'{"output":"10:00:00.123456789: Notice x (user=root)","priority":"Notice","rule":"r",'
                    b'"time":"2026-11-20T10:00:00.123456789Z", "output_fields": {"evt.time":1795168800123456789}}'
                ),
                "syscall",
                "",
            ),
            # 0.30 to 0.32: source and tags
            (
                (
                    b'{"output":"10:00:00.123456789: Notice x","priority":"Notice","rule":"r","source":"k8s_audit",'
                    b'"tags":["k8s"],"time":"2026-11-20T10:00:00.123456789Z", "output_fields": {"jevt.time":"10:00"}}'
                ),
                "k8s_audit",
                "",
            ),
            # 0.33 to 0.38: hostname, fields last, non-ASCII escaped
            (
                (
                    b'{"hostname":"n","output":"10:00:00.123456789: Notice \\u00e9","priority":"Notice","rule":"r",'
                    b'"source":"syscall","tags":[],"time":"2026-11-20T10:00:00.123456789Z", "output_fields": {}}'
                ),
                "syscall",
                "n",
            ),
            # 0.39 on: compact, sorted, raw UTF-8, perhaps a message
            (
                '{"hostname":"n","message":"é","output":"10:00:00.123456789: Notice é","output_fields":{"a":"é"},'
                '"priority":"Notice","rule":"r","source":"syscall","tags":[],'
                '"time":"2026-11-20T10:00:00.123456789Z"}'.encode(),
                "syscall",
                "n",
            ),
            # 0.41 on, all options off
            (
                (
                    b'{"hostname":"n","priority":"Notice","rule":"r","source":"syscall",'
                    b'"time":"2026-11-20T10:00:00.123456789Z"}'
                ),
                "syscall",
                "n",
            ),
            # Falco's own
            (
                (
                    b'{"hostname":"n","output":"Falco internal: x","output_fields":{"n_drops":"7"},"priority":"Notice",'
                    b'"rule":"Falco internal: syscall event drop","source":"internal",'
                    b'"time":"2026-11-20T10:00:00.123456789Z"}'
                ),
                "internal",
                "n",
            ),
        ],
        ids=["0.29", "0.30", "0.33", "0.39", "0.41 bare", "internal"],
    )
    def test_of_each_version_is_understood(self, body: bytes, source: str, hostname: str) -> None:
        found = read_alert(body)
        assert found.body == body
        assert (found.source, found.hostname, found.priority) == (source, hostname, Priority.NOTICE)
        assert found.time_ns == START_NS + 123_456_789
        assert found.fields == json.loads(body).get("output_fields", {})
        assert list(found.tags) == json.loads(body).get("tags", [])

    @pytest.mark.parametrize("priority", list(Priority))
    @pytest.mark.parametrize("spell", [str.lower, str.upper, str.capitalize, str.swapcase])
    def test_may_spell_its_priority_in_any_case(self, priority: Priority, spell: type[str]) -> None:
        assert read_alert(alert(priority=spell(priority.name))).priority is priority

    @pytest.mark.parametrize("name", ["Info", "info", "INFO"])
    def test_may_be_of_priority_info(self, name: str) -> None:
        assert read_alert(alert(priority=name)).priority is Priority.INFORMATIONAL

    def test_keeps_integers_that_no_double_holds(self) -> None:
        body = alert(output_fields={"a": 2**53 + 1, "b": 2**64 - 1, "c": -(2**63)})
        assert read_alert(body).fields == {"a": 2**53 + 1, "b": 2**64 - 1, "c": -(2**63)}

    def test_keeps_the_bytes_of_integers_above_64_bits(self) -> None:
        body = alert(output_fields={"n": 1}).replace(b'{"n":1}', b'{"n":%d}' % (2**64 + 1))
        assert read_alert(body).body == body

    def test_may_have_null_list_and_nested_fields(self) -> None:
        fields = {"container.id": None, "k8s.pod.labels": ["a", None, "b"], "x": {"y": [1.5, True]}}
        assert read_alert(alert(output_fields=fields)).fields == fields

    @pytest.mark.parametrize("body", [alert(), alert(hostname="ü")])
    def test_of_a_terminal_loses_its_carriage_return(self, body: bytes) -> None:
        assert read_alert(body + b"\r").body == body

    @pytest.mark.parametrize("wrong", [None, 7, [], {}, True, ...])
    def test_without_usable_optional_keys_takes_what_is_known_else(self, wrong: object) -> None:
        found = read_alert(
            alert(time=wrong, source=wrong, hostname=wrong, tags=wrong, output=wrong, output_fields=wrong)
        )
        assert (found.time, found.time_ns, found.source, found.hostname) == ("", LINE_NS, "syscall", "")
        assert (found.tags, found.fields) == ((), {})

    def test_keeps_only_tags_that_are_text(self) -> None:
        assert read_alert(alert(tags=["a", None, 1, ["b"], "c"])).tags == ("a", "c")

    @pytest.mark.parametrize(
        "time",
        ["", "yesterday", "10:00:00", "2026-13-20T10:00:00Z", "0001-01-01T00:00:00Z", "9999-01-01T00:00:00Z"],
    )
    def test_whose_time_is_none_takes_the_lines(self, time: str) -> None:
        found = read_alert(alert(time=time))
        assert (found.time, found.time_ns) == ("", LINE_NS)

    @pytest.mark.parametrize(
        "time",
        [
            "2026-11-20T10:00:00Z",
            "2026-11-20t10:00:00z",
            "2026-11-20 10:00:00.000000000Z",
            "2026-11-20T15:30:00+0530",
            "2026-11-20T10:00:00." + "0" * 300 + "Z",
        ],
    )
    def test_tells_its_time_in_one_form_only(self, time: str) -> None:
        found = read_alert(alert(time=time))
        assert (found.time, found.time_ns) == ("2026-11-20T10:00:00.000000000Z", START_NS)

    def test_counts_the_last_of_equal_keys_as_every_json_reader_does(self) -> None:
        body = b'{"rule":"a","priority":"Debug","rule":"b","priority":"Error"}'
        found = read_alert(body)
        assert (found.rule, found.priority, found.body) == ("b", Priority.ERROR, body)

    @given(ALERT_BODIES)
    def test_of_any_content_is_an_alert_and_keeps_its_bytes(self, body: bytes) -> None:
        found = read_alert(body)
        known = orjson.loads(body)
        assert (found.body, found.rule) == (body, known["rule"])
        assert found.priority.label == known["priority"].lower()


class TestFalcosOwnText:
    @pytest.mark.parametrize(
        "line",
        [
            b"Fri Nov 20 10:00:00 2026: Falco version: 0.44.1 (x86_64)",
            b"Fri Nov  6 10:00:00 2026: Falco initialized with configuration files:",
            b"Fri Nov 20 10:00:00 2026:    /etc/falco/falco.yaml | schema validation: ok",
            b"2026-11-20T10:00:00+0000: Loading rules from:",
            b"2026-11-20T10:00:00Z: Enabled event sources: syscall",
            b'Fri Nov 20 10:00:00 2026: "stdout" output timeout, all output channels are blocked',
            b"Fri Nov 20 10:00:00 2026: Opening 'syscall' source with modern BPF probe.\r",
        ],
    )
    def test_with_a_log_time_is_log(self, line: bytes) -> None:
        assert text_class(line) is TextClass.LOG

    @pytest.mark.parametrize(
        "line",
        [
            b"Events detected: 3",
            b"Rule counts by severity:",
            b"   INFO: 3",
            b"   WARNING: 12",
            b"Triggered rules by rule name:",
            b"   Terminal shell in container: 3",
            b"Syscall event drop monitoring:",
            b"   - event drop detected: 0",
        ],
    )
    def test_of_its_exit_is_statistics(self, line: bytes) -> None:
        assert text_class(line) is TextClass.STATISTICS

    @pytest.mark.parametrize("line", [b"", b"\r", b" ", b"\t \r"])
    def test_may_be_empty(self, line: bytes) -> None:
        assert text_class(line) is TextClass.EMPTY

    @pytest.mark.parametrize(
        "line",
        [
            b"Error: /etc/falco/falco_rules.local.yaml: Invalid",
            b"1 Errors:",
            b"In rules content: (/etc/falco/rules.d/x.yaml:0:0)",
            b"    rule 'x': (/etc/falco/rules.d/x.yaml:3:2)",
            b"- rule: Terminal shell in container",
            b"  condition: evt.type in (execve, execveat) and proc.name in {bash}",
            b"------",
            b"^",
            b"[libs]: warning",
            b"[2026] {not json",
            b"ok {} ok",
            b"\0",
            b"\xff\xfe",
        ],
    )
    def test_of_any_other_kind_is_no_error(self, line: bytes) -> None:
        assert text_class(line) is TextClass.OTHER


class TestAnAlertAsText:
    @pytest.mark.parametrize("priority", [priority.name.capitalize() for priority in Priority])
    @pytest.mark.parametrize(
        "time",
        [
            "10:00:00.123456789",
            "2026-11-20T10:00:00.123456789+0000",
            "2026-11-20T10:00:00.123456789Z",
            "2026-11-20T10:00:00.123456789+05:30",
        ],
    )
    def test_is_named_as_such(self, time: str, priority: str) -> None:
        body = f"{time}: {priority} A shell was spawned in a container with an attached terminal (user=root)"
        assert reason(body.encode()) is Reason.TEXT_ALERT
        assert reason(body.encode() + b"\r") is Reason.TEXT_ALERT

    def test_may_quote_json(self) -> None:
        assert reason(b'10:00:00.123456789: Notice x (cmd=echo "rule": {})') is Reason.TEXT_ALERT


class TestMalformed:
    @pytest.mark.parametrize(
        "body",
        [
            alert()[:-1],
            alert()[:100],
            b"{",
            b"{}}",
            alert() + alert(),
            alert() + b" trailing",
            alert() + b"Fri Nov 20 10:00:00 2026: log",
            alert().replace(b'"syscall"', b"NaN"),
            alert().replace(b'"syscall"', b"Infinity"),
            alert().replace(b'"syscall"', b"1e999"),
            alert().replace(b'"node-1"', b"'node-1'"),
            alert().replace(b"node-1", b"node-\xff"),
            alert().replace(b"node-1", b"node-\xc3"),
            alert().replace(b"node-1", b"node-\xed\xa0\x80"),
            alert().replace(b"node-1", b"node-\0"),
            alert().replace(b"node-1", b"node-\\ud800"),
            alert() + b"\0",
            b"\0" + alert(),
            b"\xef\xbb\xbf" + alert(),
            b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
            b"{" * 10_000,
            b'{"rule":' + b"[" * 10_000 + b"]" * 10_000 + b"}",
        ],
        ids=lambda body: repr(body[:8] + b".." + body[-8:]),
    )
    def test_is_what_begins_as_json_and_is_none(self, body: bytes) -> None:
        assert reason(body) is Reason.INVALID_JSON

    @pytest.mark.parametrize(
        "body",
        [
            b"{}",
            b"{} ",
            alert(rule=...),
            alert(rule=None),
            alert(rule=7),
            alert(rule=["x"]),
            alert(priority=...),
            alert(priority=None),
            alert(priority=4),
            b'{"falco_version":"0.44.1","engine_version":"50"}',
            b"[]",
            b"[" + alert() + b"]",
            b" " + alert(),
            b'  {"a":1}',
        ],
        ids=repr,
    )
    def test_is_json_that_is_no_alert(self, body: bytes) -> None:
        assert reason(body) is Reason.NOT_AN_ALERT

    @pytest.mark.parametrize(
        "name", ["", "High", "Warn", "informationals", "0", "W\u0131nformational", "x" * 500]
    )
    def test_is_an_unknown_priority_and_its_name_is_told_in_short(self, name: str) -> None:
        found = read(alert(priority=name))
        assert isinstance(found, Malformed)
        assert found.reason is Reason.UNKNOWN_PRIORITY
        assert repr(name[:40]) in found.detail
        assert len(found.detail) < 100

    @pytest.mark.parametrize(
        "before",
        [
            b"Fri Nov 20 10:00:00 2026: Loading rules from:",
            b"Fri Nov 20 10:00:00 2026: ",
            b"2026-11-20T10:00:00+0000: Error",
            b"Error: x",
            b"Events detected: 3",
            b"Syscall event drop monitoring:",
            b"[",
            b"10:00:00",
        ],
    )
    def test_is_an_alert_glued_to_falcos_own_text(self, before: bytes) -> None:
        assert reason(before + alert()) is Reason.INVALID_JSON

    @pytest.mark.parametrize(
        "body", [alert(), alert(output_fields={"evt.num": 12}, tags=[])], ids=["long", "short"]
    )
    def test_is_the_headless_tail_of_an_alert(self, body: bytes) -> None:
        for length in range(2, len(body)):
            # One tail is `output`'s text to the byte, and so looks like an alert printed as text.
            expected = (
                Reason.TEXT_ALERT
                if body[-length:].startswith(b"10:00:00.000000000: ")
                else Reason.INVALID_JSON
            )
            assert reason(body[-length:]) is expected, body[-length:]

    def test_is_the_headless_tail_of_an_older_alert(self) -> None:
        body = b'{"output":"o","priority":"Notice","rule":"r","time":"t", "output_fields": {"a.b":12,"proc.tty":0}}'
        for length in range(2, len(body)):
            assert reason(body[-length:]) is Reason.INVALID_JSON, body[-length:]

    def test_is_a_piece_from_the_middle_of_an_alert(self) -> None:
        assert reason(b'72,"proc.cmdline":"sh -c ls","proc.tty":0,"user.name":"ro') is Reason.INVALID_JSON

    def test_says_what_is_wrong_in_few_words(self) -> None:
        for body in alert()[:-1], alert(rule=7), b"\xff" + alert():
            found = read(body)
            assert isinstance(found, Malformed)
            assert 0 < len(found.detail) < 120


@given(BODIES | NEAR_ALERTS | st.binary())
def test_any_bytes_are_one_of_the_three(body: bytes) -> None:
    found = read(body)
    assert isinstance(found, Alert | TextLine | Malformed)
    if isinstance(found, Alert):
        assert found.body == body.removesuffix(b"\r")


@given(st.binary(max_size=50), st.binary(max_size=50))
def test_an_alert_within_any_bytes_is_never_taken_for_text(before: bytes, after: bytes) -> None:
    assert not isinstance(read(before + alert() + after), TextLine)
