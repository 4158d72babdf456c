"""The probes and the ledger over HTTP."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator

import aiohttp
import orjson
import pytest

from streamer.model import Coverage, Ledger
from streamer.telemetry.http import HttpServer, ListenError
from streamer.telemetry.status import Check, CheckState, ShardStatus, Status


class Site:
    """A server whose checks and ledger the test sets."""

    def __init__(self) -> None:
        self.checks = [
            Check("topics verified", CheckState.FAILING, "Kafka is away"),
            Check("pods listed", why="listing"),
        ]
        self.ledger = Ledger()
        self.server = HttpServer("127.0.0.1", 0, self.status)
        self.url = ""

    def status(self) -> Status:
        coverage = {Coverage.SILENT: 2}
        shard = ShardStatus(3, True, 7, self.ledger, 0, 0.0, 0.0, 1, 2, 0, coverage=coverage)
        return Status("prod-eu-1", self.checks, [shard])

    def succeed(self) -> None:
        self.checks = [Check(check.name, CheckState.OK) for check in self.checks]

    async def get(self, path: str) -> tuple[int, str]:
        async with aiohttp.ClientSession() as session, session.get(self.url + path) as answer:
            return answer.status, await answer.text()


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    made = Site()
    async with made.server.serving() as port:
        made.url = f"http://127.0.0.1:{port}"
        yield made


async def test_it_lives_while_the_loop_turns_ready_or_not(site: Site) -> None:
    assert await site.get("/livez") == (200, "ok\n")
    status, text = await site.get("/livez?verbose")
    assert status == 200
    assert text.splitlines() == [
        "[+] event loop", "[-] topics verified: Kafka is away", "[?] pods listed: listing", "ok",
    ]  # fmt: skip


def test_a_check_is_unknown_until_a_success_or_a_failure_was_observed() -> None:
    assert Check("x").state is CheckState.UNKNOWN
    assert Check.observed("x", succeeded=False, unknown="not asked") == Check(
        "x", CheckState.UNKNOWN, "not asked"
    )
    assert Check.observed("x", succeeded=True, unknown="not asked") == Check("x", CheckState.OK)
    for succeeded in (False, True):
        found = Check.observed("x", succeeded=succeeded, trouble="away", unknown="not asked", needed=False)
        assert found == Check("x", CheckState.FAILING, "away", needed=False)


@pytest.mark.parametrize("health", [CheckState.FAILING, CheckState.UNKNOWN])
def test_one_needed_condition_that_is_not_ok_keeps_it_from_being_ready(health: CheckState) -> None:
    well = [Check("a", CheckState.OK), Check("b", CheckState.OK, needed=False)]
    assert Status("test", well).ready
    assert Status("test", [*well, Check("c", health, "why", needed=False)]).ready
    assert not Status("test", [*well, Check("c", health, "why")]).ready


async def test_it_is_not_ready_until_every_check_is_met_and_says_which_is_not(site: Site) -> None:
    site.checks[0] = Check("topics verified", CheckState.OK)
    status, text = await site.get("/readyz")
    assert status == 503
    assert text.splitlines() == ["[+] topics verified", "[?] pods listed: listing", "not ready"]
    site.succeed()
    assert await site.get("/readyz") == (200, "ok\n")


async def test_verbose_tells_each_check_when_ready_as_well(site: Site) -> None:
    site.succeed()
    status, text = await site.get("/readyz?verbose")
    assert status == 200
    assert text.splitlines() == ["[+] topics verified", "[+] pods listed", "ok"]


async def test_once_ready_it_stays_so_through_an_outage_which_verbose_shows(site: Site) -> None:
    site.succeed()
    await site.get("/readyz")
    site.checks[1] = Check("pods listed", CheckState.FAILING, "the API server is away")
    assert await site.get("/readyz") == (200, "ok\n")
    status, text = await site.get("/readyz?verbose")
    assert status == 200
    assert "[-] pods listed: the API server is away" in text


async def test_the_ledger_is_json_with_its_balance(site: Site) -> None:
    site.ledger = Ledger(lines=3, alerts=2, log_lines=1, published=2)
    async with aiohttp.ClientSession() as session, session.get(site.url + "/ledger") as answer:
        assert answer.content_type == "application/json"
        assert await answer.json() == site.ledger.as_dict()
        assert (await answer.json())["balanced"] is True
    site.ledger.published = 1
    async with aiohttp.ClientSession() as session, session.get(site.url + "/ledger") as answer:
        assert (await answer.json())["balanced"] is False


async def test_what_is_no_condition_of_work_is_told_and_holds_nothing_up() -> None:
    checks = [
        Check("pods listed", CheckState.OK),
        Check("Kafka takes records", CheckState.FAILING, "no answer to the commit", needed=False),
    ]
    async with HttpServer("127.0.0.1", 0, lambda: Status("test", checks)).serving() as port:
        url = f"http://127.0.0.1:{port}/readyz?verbose"
        async with aiohttp.ClientSession() as session, session.get(url) as answer:
            assert answer.status == 200
            assert "[-] Kafka takes records: no answer to the commit\n" in await answer.text()


async def test_the_status_is_json_of_everything(site: Site) -> None:
    site.ledger = Ledger(lines=1, alerts=1, published=1)
    status, text = await site.get("/status")
    found = orjson.loads(text)
    assert status == 200
    assert found["cluster"] == "prod-eu-1"
    assert found["ledger"] == site.ledger.as_dict()
    assert found["shards"][0]["ledger"]["published"] == 1
    assert found["shards"][0]["coverage"] == {"silent": 2}
    assert found["checks"][1] == {
        "name": "pods listed", "state": "unknown", "why": "listing", "needed": True,
    }  # fmt: skip


@pytest.mark.parametrize("accept", ["", "text/plain", "application/openmetrics-text; version=1.0.0"])
async def test_metrics_come_in_the_format_that_prometheus_asks_for(site: Site, accept: str) -> None:
    async with (
        aiohttp.ClientSession(headers={"Accept": accept}) as session,
        session.get(site.url + "/metrics") as answer,
    ):
        text = await answer.text()
        wanted = "application/openmetrics-text" if "openmetrics" in accept else "text/plain"
        assert answer.headers["Content-Type"].startswith(wanted)
        assert "falco_streamer_lines_total" in text
        assert text.endswith("# EOF\n") is ("openmetrics" in accept)


async def test_there_is_nothing_else(site: Site) -> None:
    assert (await site.get("/secrets"))[0] == 404


async def test_a_port_that_is_taken_is_told_in_one_line_that_names_the_setting() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        server = HttpServer("127.0.0.1", port, lambda: Status("test"))
        with pytest.raises(
            ListenError,
            match=f"^cannot listen at http.port {port}: another process does; set it to a free one$",
        ):
            async with server.serving():
                pytest.fail("it serves on a port of another's")


@pytest.mark.parametrize(
    ("host", "told"),
    [
        ("192.0.2.1", "http.host 192.0.2.1 is not an address of this machine"),
        ("no.such.host.invalid", "http.host no.such.host.invalid is not an address of this machine: "),
    ],
)
async def test_a_host_that_is_not_ours_is_named(host: str, told: str) -> None:
    with pytest.raises(ListenError, match=f"^{told}"):
        async with HttpServer(host, 0, lambda: Status("test")).serving():
            pytest.fail("it serves at an address of another's")


async def test_afterwards_the_port_is_free() -> None:
    site = Site()
    async with site.server.serving() as port:
        pass
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=1)
