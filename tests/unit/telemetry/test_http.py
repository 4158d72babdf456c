"""The probes and the ledger over HTTP."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator

import aiohttp
import pytest

from streamer.model import Ledger
from streamer.telemetry.http import HttpServer, ListenError


class Site:
    """A server whose checks and ledger the test sets."""

    def __init__(self) -> None:
        self.checks = {"topics verified": False, "pods listed": False}
        self.ledger = Ledger()
        self.server = HttpServer("127.0.0.1", 0, lambda: self.checks, lambda: self.ledger)
        self.url = ""

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


async def test_it_is_not_ready_until_every_check_is_met_and_says_which_is_not(site: Site) -> None:
    site.checks["topics verified"] = True
    status, text = await site.get("/readyz")
    assert status == 503
    assert text.splitlines() == ["[+] topics verified", "[-] pods listed", "not ready"]
    site.checks["pods listed"] = True
    assert await site.get("/readyz") == (200, "ok\n")


async def test_verbose_tells_each_check_when_ready_as_well(site: Site) -> None:
    site.checks = dict.fromkeys(site.checks, True)
    status, text = await site.get("/readyz?verbose")
    assert status == 200
    assert text.splitlines() == ["[+] topics verified", "[+] pods listed", "ok"]


async def test_once_ready_it_stays_so_through_an_outage_which_verbose_shows(site: Site) -> None:
    site.checks = dict.fromkeys(site.checks, True)
    await site.get("/readyz")
    site.checks["pods listed"] = False
    assert await site.get("/readyz") == (200, "ok\n")
    status, text = await site.get("/readyz?verbose")
    assert status == 200
    assert "[-] pods listed" in text


async def test_the_ledger_is_json_with_its_balance(site: Site) -> None:
    site.ledger = Ledger(lines=3, alerts=2, log_lines=1, published=2)
    async with aiohttp.ClientSession() as session, session.get(site.url + "/ledger") as answer:
        assert answer.content_type == "application/json"
        assert await answer.json() == site.ledger.as_dict()
        assert (await answer.json())["balanced"] is True
    site.ledger.published = 1
    async with aiohttp.ClientSession() as session, session.get(site.url + "/ledger") as answer:
        assert (await answer.json())["balanced"] is False


async def test_there_is_nothing_else(site: Site) -> None:
    assert (await site.get("/secrets"))[0] == 404


async def test_a_port_that_is_taken_is_told_in_one_line_that_names_the_setting() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        server = HttpServer("127.0.0.1", port, dict, Ledger)
        with pytest.raises(ListenError, match=rf"^cannot listen at http\.port {port}: [^\n]*in use[^\n]*$"):
            async with server.serving():
                pytest.fail("it serves on a port of another's")


async def test_afterwards_the_port_is_free() -> None:
    site = Site()
    async with site.server.serving() as port:
        pass
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=1)
