"""The sections `filters`, `dedupe` and `limits`."""

from __future__ import annotations

from datetime import UTC, datetime
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import ValidationError

from streamer.config import Settings, load
from streamer.config.alert_fields import GROUP_FIELDS, VOLATILE_FIELDS
from streamer.config.dedupe import Dedupe
from streamer.config.limits import PriorityName
from streamer.model import Priority
from streamer.simulator.other_rules import AUDIT_RULES
from streamer.simulator.syscall_rules import SYSCALL_RULES
from streamer.transform.normalise import NORMALISERS

PREFIX = "FALCO_STREAMER__"


def settings(**given: Any) -> Settings:
    return Settings.model_validate({"cluster": "prod-1", **given})


class TestFields:
    def test_given_for_a_source_are_laid_over_the_defaults(self) -> None:
        dedupe = settings(dedupe={"group_fields": {"syscall": ["a"], "kafka": "b"}}).dedupe
        assert dedupe.group_fields == {**GROUP_FIELDS, "syscall": ("a",), "kafka": ("b",)}
        assert dedupe.variant_fields == {"other": ("*",)}

    @pytest.mark.parametrize("text", ["dedupe:\n  group_fields:\n", "dedupe:\n"])
    def test_not_given_are_the_defaults(self, text: str, tmp_path: Path) -> None:
        path = tmp_path / "streamer.yaml"
        path.write_text(text, encoding="utf-8")
        assert load(path, environ={}, require=()) == Settings()

    def test_can_be_given_as_flags_and_variables(self) -> None:
        flags = ["dedupe.group_fields.aws_cloudtrail=[ct.user, ct.name]", "dedupe.variant_fields.a-b=x"]
        environ = {f"{PREFIX}DEDUPE__GROUP_FIELDS__K8S_AUDIT": "ka.user.name"}
        dedupe = load(None, flags, environ, require=()).dedupe
        assert dedupe.group_fields["aws_cloudtrail"] == ("ct.user", "ct.name")
        assert dedupe.group_fields["k8s_audit"] == ("ka.user.name",)
        assert dedupe.variant_fields["a-b"] == ("x",)

    def test_of_groups_are_never_volatile(self) -> None:
        names = {name for group in GROUP_FIELDS.values() for name in group}
        assert not [name for name in names for glob in VOLATILE_FIELDS if fnmatchcase(name, glob)]

    @pytest.mark.parametrize(
        "name",
        [
            "fd.name",
            "fd.rport",  # a server's, where we are the client
            "fd.sport",
            "proc.cmdline",
            "proc.exe_ino.ctime",
            "thread.cap_effective",  # of the rule on container escapes
            "evt.arg.flags",
            "user.loginuid",
            "ct.srcip",
            "ka.req.pod.containers.image",
        ],
    )
    def test_with_evidence_are_not_volatile(self, name: str) -> None:
        assert not [glob for glob in VOLATILE_FIELDS if fnmatchcase(name, glob)]

    @pytest.mark.parametrize(
        "name",
        [
            "evt.time",
            "evt.time.iso8601",
            "evt.datetime",
            "evt.rawtime.ns",
            "proc.pid",
            "proc.apid[2]",
            "proc.exe_ino.ctime_duration_proc_start",
            "proc.ppid.duration",
            "container.duration",
            "thread.tid",
            "jevt.time.iso8601",
            "okta.mfa.failure.countlast[600]",
        ],
    )
    def test_that_differ_each_time_are_volatile(self, name: str) -> None:
        assert [glob for glob in VOLATILE_FIELDS if fnmatchcase(name, glob)]

    @pytest.mark.parametrize("source", ["syscall", "k8s_audit"])
    def test_of_groups_are_among_those_that_rules_print(self, source: str) -> None:
        printed = {field for rule in (*SYSCALL_RULES, *AUDIT_RULES) for field in rule.fields}
        printed |= {"k8s.ns.name", "k8s.pod.name", "container.id"}
        assert set(GROUP_FIELDS[source]) <= printed

    def test_that_are_volatile_may_be_added_to_the_defaults_or_replace_them(self) -> None:
        given = ["<default>", "a.request_id", "proc.pid"]
        assert settings(dedupe={"volatile_fields": given}).dedupe.volatile_fields == (
            *VOLATILE_FIELDS,
            "a.request_id",
        )
        assert settings(dedupe={"volatile_fields": "a"}).dedupe.volatile_fields == ("a",)
        assert settings(dedupe={"volatile_fields": []}).dedupe.volatile_fields == ()

    def test_normalisers_are_those_that_the_core_has(self) -> None:
        annotation = Dedupe.model_fields["normalisers"].annotation
        assert set(get_args(get_args(annotation)[0])) == set(NORMALISERS)


class TestWindowSeconds:
    def test_may_be_one_length_or_text_with_commas(self) -> None:
        assert settings(dedupe={"window_seconds": "60"}).dedupe.window_seconds == (60,)
        assert load(None, ["dedupe.window_seconds=10,20.5"], {}, require=()).dedupe.window_seconds == (
            10,
            20.5,
        )

    @pytest.mark.parametrize("lengths", [[60, 60], [300, 60], [0], [-1], [], [86_401], list(range(1, 10))])
    def test_are_ascending_and_within_a_day(self, lengths: list[int]) -> None:
        for section in (
            {"window_seconds": lengths},
            {"overrides": [{"rules": "x", "window_seconds": lengths}]},
        ):
            with pytest.raises(ValidationError, match="window_seconds"):
                settings(dedupe=section)


class TestFilters:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("2027-01-31T00:00:00Z", datetime(2027, 1, 31, tzinfo=UTC)),
            ("2027-01-31T01:30:00.5+01:30", datetime(2027, 1, 31, microsecond=500_000, tzinfo=UTC)),
        ],
    )
    def test_expire_at_a_moment(self, text: str, expected: datetime) -> None:
        rule = {"action": "drop", "match": 'rule = "x"', "reason": "r", "expires": text}
        [found] = settings(filters=[rule]).filters
        assert found.expires == expected

    @pytest.mark.parametrize(
        "text",
        [
            "2027-01-31",
            "2027-01-31T00:00:00",
            "2027-02-30T00:00:00Z",
            "1800000000",
            "tomorrow",
            "2027-01-31 00:00Z",
        ],
    )
    def test_do_not_expire_at_a_time_that_means_something_else_elsewhere(self, text: str) -> None:
        with pytest.raises(ValidationError, match="expected a time"):
            settings(filters=[{"action": "drop", "match": 'a.b = "c"', "reason": "r", "expires": text}])

    def test_say_why(self) -> None:
        with pytest.raises(ValidationError, match="reason"):
            settings(filters=[{"action": "drop", "match": 'a.b = "c"'}])


class TestProtectedPriorities:
    @pytest.mark.parametrize("left_out", ["emergency", "alert", "critical"])
    def test_cannot_be_fewer(self, left_out: str) -> None:
        names = [name for name in get_args(PriorityName) if name != left_out]
        with pytest.raises(ValidationError, match=f"add `{left_out}`"):
            settings(limits={"protected": names})

    def test_can_be_more(self) -> None:
        limits = settings(limits={"protected": "critical, alert, emergency, error"}).limits
        assert limits.protected == ("critical", "alert", "emergency", "error")

    def test_have_falcos_names(self) -> None:
        assert list(get_args(PriorityName)) == [priority.label for priority in Priority]


def test_limits_of_topics_can_be_given_as_flags_and_variables() -> None:
    environ = {f"{PREFIX}LIMITS__OVERALL__BURST": "7", f"{PREFIX}LIMITS__OVERALL__RATE_PER_MINUTE": "0.5"}
    limits = load(None, ["limits.per_topic={rate_per_minute: 1, burst: 2}"], environ, require=()).limits
    assert limits.overall is not None
    assert limits.per_topic is not None
    assert (limits.overall.rate_per_minute, limits.overall.burst) == (0.5, 7)
    assert (limits.per_topic.rate_per_minute, limits.per_topic.burst) == (1, 2)
    assert load(None, ["limits.per_topic=null"], {}, require=()).limits.per_topic is None
