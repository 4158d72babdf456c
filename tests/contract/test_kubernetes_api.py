"""Logs: what the API server and the kubelet's reader answer, and what the simulator therefore answers."""

import pytest

from tests.contract.asking import NOON, SECOND, log, log_path, next_line, pods_path, refused, rest
from tests.contract.driver import ClusterDriver


async def test_a_line_is_stamped_with_nine_digits_when_asked(api: ClusterDriver) -> None:
    await api.create_pod("p")
    api.line("p", b"one", NOON)
    api.line("p", b"", NOON + 120)
    api.line("p", b"two", NOON + SECOND + 500_000_000)
    assert await log(api, "p") == b"one\n\ntwo\n"
    assert await log(api, "p", timestamps="true") == (
        b"2026-02-02T02:40:00.000000000Z one\n"
        b"2026-02-02T02:40:00.000000120Z \n"
        b"2026-02-02T02:40:01.500000000Z two\n"
    )


async def test_the_header_of_a_follow_comes_before_the_first_line(api: ClusterDriver) -> None:
    await api.create_pod("p")
    async with api.open(log_path(api, "p"), {"follow": "true"}) as answer:
        assert answer.status == 200
        assert answer.headers["Content-Type"] == "text/plain"
        api.line("p", b"first", NOON)
        assert await next_line(answer) == b"first\n"


async def test_a_follow_gives_the_backlog_and_then_what_is_written(api: ClusterDriver) -> None:
    await api.create_pod("p")
    api.line("p", b"before", NOON)
    async with api.open(log_path(api, "p"), {"follow": "true", "timestamps": "true"}) as answer:
        assert await next_line(answer) == b"2026-02-02T02:40:00.000000000Z before\n"
        # Stamps are the runtime's and may go back.
        api.line("p", b"after", NOON - 1)
        assert await next_line(answer) == b"2026-02-02T02:39:59.999999999Z after\n"


async def test_many_lines_arrive_whole_and_in_order(api: ClusterDriver) -> None:
    await api.create_pod("p")
    lines = [b'{"n":%d,"output":"%s"}' % (n, b"x" * (n % 3000)) for n in range(2000)]
    for n, line in enumerate(lines[:1000]):
        api.line("p", line, NOON + n)
    async with api.open(log_path(api, "p"), {"follow": "true"}) as answer:
        assert await next_line(answer) == lines[0] + b"\n"
        for n, line in enumerate(lines[1000:]):
            api.line("p", line, NOON + n)
        await api.end("p")
        assert (await rest(answer)).split(b"\n") == [*lines[1:], b""]


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ("0", b""),
        ("2", b"three\nfour\n"),
        ("4", b"one\ntwo\nthree\nfour\n"),
        ("99", b"one\ntwo\nthree\nfour\n"),
    ],
)
async def test_tail_lines_begins_so_many_lines_before_the_end(
    api: ClusterDriver, asked: str, expected: bytes
) -> None:
    await api.create_pod("p")
    for text in (b"one", b"two", b"three", b"four"):
        api.line("p", text, NOON)
    assert await log(api, "p", tailLines=asked) == expected


async def test_a_follow_with_tail_lines_limits_the_backlog_only(api: ClusterDriver) -> None:
    await api.create_pod("p")
    for text in (b"one", b"two"):
        api.line("p", text, NOON)
    async with api.open(log_path(api, "p"), {"follow": "true", "tailLines": "1"}) as answer:
        assert await next_line(answer) == b"two\n"
        for text in (b"three", b"four"):
            api.line("p", text, NOON)
        await api.end("p")
        assert await rest(answer) == b"three\nfour\n"


async def test_since_time_is_cut_to_the_second_and_includes_it(api: ClusterDriver) -> None:
    await api.create_pod("p")
    api.line("p", b"too old", NOON - 1)
    api.line("p", b"that second", NOON)
    api.line("p", b"later", NOON + 999_000_000)
    assert await log(api, "p", sinceTime="2026-02-02T02:40:00.9Z") == b"that second\nlater\n"
    assert await log(api, "p", sinceTime="2026-02-02T03:40:00+01:00") == b"that second\nlater\n"


async def test_since_time_filters_every_line_wherever_it_stands(api: ClusterDriver) -> None:
    await api.create_pod("p")
    api.line("p", b"new", NOON)
    async with api.open(
        log_path(api, "p"), {"follow": "true", "sinceTime": "2026-02-02T02:40:00Z"}
    ) as answer:
        assert await next_line(answer) == b"new\n"
        api.line("p", b"the clock was set back", NOON - SECOND)
        api.line("p", b"and went on", NOON + 1)
        assert await next_line(answer) == b"and went on\n"


async def test_since_time_and_tail_lines_hold_together(api: ClusterDriver) -> None:
    await api.create_pod("p")
    for n in range(4):
        api.line("p", b"line %d" % n, NOON + n * SECOND)
    asked = {"sinceTime": "2026-02-02T02:40:02Z", "tailLines": "3"}
    assert await log(api, "p", **asked) == b"line 2\nline 3\n"


async def test_limit_bytes_counts_everything_and_cuts_inside_a_line(api: ClusterDriver) -> None:
    await api.create_pod("p")
    api.line("p", b"one", NOON)
    api.line("p", b"two", NOON)
    assert await log(api, "p", limitBytes="6") == b"one\ntw"
    assert await log(api, "p", limitBytes="33", timestamps="true") == b"2026-02-02T02:40:00.000000000Z on"
    assert await log(api, "p", limitBytes="6", follow="true") == b"one\ntw"


async def test_a_long_line_is_joined_from_its_records(api: ClusterDriver) -> None:
    await api.create_pod("p")
    long = bytes(range(ord("a"), ord("z") + 1)) * 1600
    api.line("p", long, NOON)
    api.line("p", b"short", NOON)
    assert await log(api, "p", timestamps="true") == (
        b"2026-02-02T02:40:00.000000000Z " + long + b"\n2026-02-02T02:40:00.000000000Z short\n"
    )


async def test_tail_lines_counts_records_and_stamps_the_inside_of_a_line(api: ClusterDriver) -> None:
    await api.create_pod("p")
    api.part("p", b"begin ", NOON)
    api.part("p", b"middle ", NOON + 1)
    api.line("p", b"end", NOON + 2)
    assert await log(api, "p", timestamps="true", tailLines="2") == (
        b"2026-02-02T02:40:00.000000001Z middle end\n"
    )


async def test_since_time_can_leave_out_the_head_of_a_line_with_its_stamp(api: ClusterDriver) -> None:
    await api.create_pod("p")
    api.part("p", b"begin ", NOON - 1)
    api.line("p", b"end", NOON)
    api.line("p", b"next", NOON)
    since = {"sinceTime": "2026-02-02T02:40:00Z", "timestamps": "true"}
    assert await log(api, "p", **since) == b"end\n2026-02-02T02:40:00.000000000Z next\n"


async def test_a_line_that_is_not_finished_has_no_newline(api: ClusterDriver) -> None:
    await api.create_pod("p")
    api.line("p", b"whole", NOON)
    async with api.open(log_path(api, "p"), {"follow": "true", "timestamps": "true"}) as answer:
        assert await next_line(answer) == b"2026-02-02T02:40:00.000000000Z whole\n"
        api.part("p", b"cut o", NOON + 1)
        await api.end("p")
        assert await rest(answer) == b"2026-02-02T02:40:00.000000001Z cut o"
    assert await log(api, "p") == b"whole\ncut o"


async def test_a_follow_goes_on_over_a_rotation_and_a_new_request_sees_the_new_file(
    api: ClusterDriver,
) -> None:
    await api.create_pod("p")
    api.line("p", b"one", NOON)
    async with api.open(log_path(api, "p"), {"follow": "true"}) as answer:
        assert await next_line(answer) == b"one\n"
        # A line that the reader has to wake up for shows that it watches for the new file from now on.
        api.line("p", b"two", NOON)
        assert await next_line(answer) == b"two\n"
        api.rotate("p")
        assert await log(api, "p") == b""
        api.line("p", b"three", NOON)
        assert await next_line(answer) == b"three\n"
    assert await log(api, "p") == b"three\n"
    assert await log(api, "p", tailLines="9") == b"three\n"


async def test_a_line_over_a_rotation_is_joined_in_a_follow_and_headless_in_a_new_request(
    api: ClusterDriver,
) -> None:
    await api.create_pod("p")
    asked = {"follow": "true", "timestamps": "true"}
    api.line("p", b"first", NOON)
    async with api.open(log_path(api, "p"), asked) as answer:
        assert await next_line(answer) == b"2026-02-02T02:40:00.000000000Z first\n"
        api.line("p", b"second", NOON)
        assert await next_line(answer) == b"2026-02-02T02:40:00.000000000Z second\n"
        api.part("p", b"in the old file, ", NOON + 1)
        head = await answer.content.readexactly(len(b"2026-02-02T02:40:00.000000001Z in the old file, "))
        assert head == b"2026-02-02T02:40:00.000000001Z in the old file, "
        api.rotate("p")
        api.line("p", b"in the new", NOON + 2)
        assert await next_line(answer) == b"in the new\n"
    assert await log(api, "p", timestamps="true") == b"2026-02-02T02:40:00.000000002Z in the new\n"


async def test_a_follow_ends_cleanly_when_the_container_has_ended(api: ClusterDriver) -> None:
    await api.create_pod("p")
    api.line("p", b"one", NOON)
    async with api.open(log_path(api, "p"), {"follow": "true"}) as answer:
        assert await next_line(answer) == b"one\n"
        api.line("p", b"last", NOON)
        await api.end("p")
        assert await rest(answer) == b"last\n"
    assert await log(api, "p", follow="true") == b"one\nlast\n"


async def test_previous_is_the_log_of_the_last_instance_that_ended(api: ClusterDriver) -> None:
    await api.create_pod("p")
    status = await refused(api, log_path(api, "p"), {"previous": "true"})
    assert status["code"] == 400
    assert status["reason"] == "BadRequest"
    assert status["message"] == 'previous terminated container "falco" in pod "p" not found'
    for text in (b"first", b"second", b"third"):
        api.line("p", text, NOON)
        if text != b"third":
            await api.restart("p")
    assert await log(api, "p") == b"third\n"
    assert await log(api, "p", previous="true") == b"second\n"


async def test_in_crash_loop_back_off_the_former_instance_answers_without_previous(
    api: ClusterDriver,
) -> None:
    await api.create_pod("p")
    api.line("p", b"first", NOON)
    await api.back_off("p")
    assert await log(api, "p") == b"first\n"
    assert await log(api, "p", previous="true", follow="true") == b"first\n"
    await api.restart("p")
    assert await log(api, "p") == b""
    assert await log(api, "p", previous="true") == b"first\n"


async def test_a_follow_of_an_instance_does_not_go_on_with_the_next(api: ClusterDriver) -> None:
    await api.create_pod("p")
    api.line("p", b"first", NOON)
    async with api.open(log_path(api, "p"), {"follow": "true"}) as answer:
        assert await next_line(answer) == b"first\n"
        await api.restart("p")
        api.line("p", b"second", NOON)
        assert await rest(answer) == b""


async def test_a_pod_without_a_node_has_no_content(api: ClusterDriver) -> None:
    await api.create_pod("p", scheduled=False)
    async with api.open(log_path(api, "p"), {"follow": "true"}) as answer:
        assert answer.status == 204
        assert await answer.read() == b""


async def test_a_container_that_has_not_started_is_waiting(api: ClusterDriver) -> None:
    await api.create_pod("p", started=False)
    status = await refused(api, log_path(api, "p"), {"container": "falco"})
    assert status["code"] == 400
    assert status["reason"] == "BadRequest"
    assert status["message"] == 'container "falco" in pod "p" is waiting to start: ContainerCreating'
    await api.start("p")
    api.line("p", b"at last", NOON)
    assert await log(api, "p") == b"at last\n"


async def test_of_several_containers_one_has_to_be_named(api: ClusterDriver) -> None:
    await api.create_pod("p", containers=("falco", "falcoctl-artifact-follow"))
    api.line("p", b"alert", NOON, container="falco")
    api.line("p", b"update", NOON, container="falcoctl-artifact-follow")
    assert await log(api, "p", container="falco") == b"alert\n"
    assert await log(api, "p", container="falcoctl-artifact-follow") == b"update\n"
    status = await refused(api, log_path(api, "p"))
    assert (status["code"], status["reason"]) == (400, "BadRequest")
    assert status["message"] == (
        "a container name must be specified for pod p, choose one of: [falco falcoctl-artifact-follow]"
    )


async def test_an_unknown_container_is_a_bad_request(api: ClusterDriver) -> None:
    await api.create_pod("p")
    status = await refused(api, log_path(api, "p"), {"container": "nobody"})
    assert (status["code"], status["reason"]) == (400, "BadRequest")
    assert status["message"] == "container nobody is not valid for pod p"


async def test_an_unknown_pod_is_not_found(api: ClusterDriver) -> None:
    for path in (log_path(api, "nobody"), f"{pods_path(api)}/nobody"):
        status = await refused(api, path)
        assert (status["code"], status["reason"]) == (404, "NotFound")
        assert status["message"] == 'pods "nobody" not found'
        assert status["details"] == {"name": "nobody", "kind": "pods"}


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ({"tailLines": "-1"}, "tailLines"),
        ({"limitBytes": "0"}, "limitBytes"),
        ({"sinceSeconds": "0"}, "sinceSeconds"),
        ({"sinceSeconds": "5", "sinceTime": "2026-02-02T02:40:00Z"}, "[]"),
        ({"stream": "Stdout"}, "stream"),
    ],
)
async def test_options_that_make_no_sense_are_invalid(
    api: ClusterDriver, asked: dict[str, str], field: str
) -> None:
    await api.create_pod("p")
    status = await refused(api, log_path(api, "p"), asked)
    assert (status["code"], status["reason"]) == (422, "Invalid")
    assert status["message"].startswith('PodLogOptions "p" is invalid: ')
    assert status["details"]["kind"] == "PodLogOptions"
    assert [cause["field"] for cause in status["details"]["causes"]] == [field]


@pytest.mark.parametrize("asked", [{"tailLines": "many"}, {"sinceTime": "noon"}])
async def test_options_that_cannot_be_read_are_a_bad_request(
    api: ClusterDriver, asked: dict[str, str]
) -> None:
    await api.create_pod("p")
    status = await refused(api, log_path(api, "p"), asked)
    assert (status["code"], status["reason"]) == (400, "BadRequest")


async def test_a_deleted_pod_is_gone_and_its_successor_is_another(api: ClusterDriver) -> None:
    first = await api.create_pod("p")
    api.line("p", b"of the first", NOON)
    async with api.open(log_path(api, "p"), {"follow": "true"}) as answer:
        assert await next_line(answer) == b"of the first\n"
        api.line("p", b"last words", NOON)
        await api.delete("p")
        assert await rest(answer) == b"last words\n"
    assert (await refused(api, log_path(api, "p")))["code"] == 404
    second = await api.create_pod("p")
    assert second != first
    assert await log(api, "p") == b""


async def test_a_wrong_token_is_unauthorized(api: ClusterDriver) -> None:
    await api.create_pod("p")
    for path in (log_path(api, "p"), pods_path(api)):
        status = await refused(api, path, authorization="Bearer of-somebody-else")
        assert (status["code"], status["reason"]) == (401, "Unauthorized")
        assert status["message"] == "Unauthorized"


async def test_who_bears_no_token_is_anonymous_and_has_no_rights(api: ClusterDriver) -> None:
    await api.create_pod("p")
    status = await refused(api, log_path(api, "p"), authorization="none")
    assert (status["code"], status["reason"]) == (403, "Forbidden")
    assert status["message"] == (
        'pods "p" is forbidden: User "system:anonymous" cannot get resource "pods/log" in API group ""'
        f' in the namespace "{api.namespace}"'
    )
    assert status["details"] == {"name": "p", "kind": "pods"}
    status = await refused(api, "/api/v1/pods", authorization="none")
    assert status["message"] == (
        'pods is forbidden: User "system:anonymous" cannot list resource "pods" in API group ""'
        " at the cluster scope"
    )
