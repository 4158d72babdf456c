"""The viewer's server: who may look, what its answers forbid a browser, and what a page that listens is sent."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest

from streamer.view.access import POLICY, Access, AccessError, is_loopback
from streamer.view.feed import FeedState, FeedStatus
from streamer.view.hub import Hub
from streamer.view.server import Tls, ViewListenError, ViewServer
from streamer.view.store import Store
from tests.testbed.certs import Authority
from tests.unit.view.records import NOW_MS, alert, coverage, summary

TOKEN = "a-token-that-nobody-guesses"
LIVE = FeedStatus(FeedState.LIVE, contact_ms=NOW_MS, share=1.0)


class Served:
    """A server with a store that a test fills, at a time that it sets."""

    def __init__(self) -> None:
        self.now_ms = NOW_MS
        self.store = Store(NOW_MS)
        self.status = FeedStatus(FeedState.LIVE, contact_ms=NOW_MS, share=1.0)
        self.hub = Hub(self.store, lambda: self.status, clock_ms=lambda: self.now_ms)
        self.url = ""

    def note(self, *records: Any) -> None:
        self.store.note(records, self.now_ms, live=True)
        self.hub.notify()

    @asynccontextmanager
    async def serving(self, access: Access | None = None, tls: Tls | None = None) -> AsyncIterator[Served]:
        server = ViewServer(self.hub, access or Access(), host="127.0.0.1", port=0, tls=tls)
        async with server.serving() as self.url:
            yield self


async def get(url: str, **options: Any) -> tuple[int, Any, bytes]:
    async with aiohttp.ClientSession() as session, session.get(url, **options) as answer:
        return answer.status, answer.headers, await answer.read()


async def json(url: str) -> Any:
    return orjson.loads((await get(url))[2])


class Listener:
    """A page's stream, event by event."""

    def __init__(self, answer: aiohttp.ClientResponse) -> None:
        self._answer = answer

    async def event(self, wanted: str) -> Any:
        """The next event of that name."""
        async with asyncio.timeout(10):
            while True:
                name = (await self._answer.content.readline()).decode().strip()
                if name == f"event: {wanted}":
                    return orjson.loads((await self._answer.content.readline())[6:])


@asynccontextmanager
async def listening(served: Served, query: str = "") -> AsyncIterator[Listener]:
    async with (
        aiohttp.ClientSession(read_bufsize=1 << 22) as session,
        session.get(f"{served.url}api/live?{query}") as answer,
    ):
        assert answer.status == 200
        yield Listener(answer)


@pytest.mark.parametrize(
    "path", ["", "static/app.js", "static/none.js", "api/status", "api/rows", "api/alert?id=x", "x"]
)
async def test_every_answer_has_the_policy(path: str) -> None:
    async with Served().serving() as served:
        _, headers, _ = await get(served.url + path)
    assert headers["Content-Security-Policy"] == POLICY
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert "unsafe" not in POLICY
    assert "Access-Control-Allow-Origin" not in headers


async def test_it_can_only_be_read() -> None:
    async with Served().serving() as served, aiohttp.ClientSession() as session:
        for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS"):
            async with session.request(method, f"{served.url}api/rows") as answer:
                assert answer.status == 405


async def test_without_a_token_only_requests_for_names_of_this_machine_are_answered() -> None:
    async with Served().serving() as served:
        for host, status in (
            ("localhost:8090", 200),
            ("[::1]:1", 200),
            ("evil.example.com", 403),
            ("127.0.0.1.nip.io", 403),
        ):
            assert (await get(f"{served.url}api/status", headers={"Host": host}))[0] == status, host


async def test_with_a_token_only_requests_that_have_it_are_answered(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")
    async with Served().serving(Access.of("0.0.0.0", file)) as served:
        assert (await get(served.url))[0] == 200, "the page itself has no data"
        status, headers, body = await get(f"{served.url}api/rows")
        assert (status, headers["WWW-Authenticate"]) == (401, 'Bearer realm="falco-streamer view"')
        assert orjson.loads(body) == {"error": "a bearer token is needed"}
        for given in ("Bearer", "Bearer x", f"Basic {TOKEN}", f"Bearer {TOKEN}x"):
            assert (await get(f"{served.url}api/live", headers={"Authorization": given}))[0] == 401
        right = {"Authorization": f"Bearer {TOKEN}", "Host": "alerts.example.com"}
        assert (await get(f"{served.url}api/rows", headers=right))[0] == 200
        file.write_text("another-token-that-nobody-guesses")
        assert (await get(f"{served.url}api/rows", headers=right))[0] == 401
        file.unlink()
        assert (await get(f"{served.url}api/rows", headers=right))[0] == 500


def test_an_address_that_others_can_reach_needs_a_token(tmp_path: Path) -> None:
    assert Access.of("127.0.0.1", None) == Access.of("::1", None) == Access()
    for host in ("0.0.0.0", "::", "10.0.0.1", "example.com", ""):
        assert not is_loopback(host)
        with pytest.raises(AccessError, match="--token-file"):
            Access.of(host, None)
    (tmp_path / "short").write_text("secret")
    with pytest.raises(AccessError, match="fewer than 16"):
        Access.of("0.0.0.0", tmp_path / "short")
    with pytest.raises(AccessError, match="No such file"):
        Access.of("0.0.0.0", tmp_path / "none")


async def test_it_serves_tls_from_files(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    pair = authority.server("view")
    trust = ssl.create_default_context(cafile=str(authority.certificate))
    async with Served().serving(tls=Tls(pair.public, pair.key)) as served:
        assert served.url.startswith("https://")
        assert (await get(f"{served.url}livez", ssl=trust))[0] == 200
    broken = Served().serving(tls=Tls(pair.public, pair.public))
    with pytest.raises(AccessError, match="the certificate"):
        async with broken:
            pass


async def test_a_port_that_is_taken_is_an_error_that_names_it() -> None:
    async with Served().serving() as served:
        port = int(served.url.rstrip("/").rpartition(":")[2])
        with pytest.raises(ViewListenError, match=f"port {port}"):
            async with ViewServer(served.hub, Access(), host="127.0.0.1", port=port).serving():
                pass


async def test_files_are_asked_for_again_only_when_they_change() -> None:
    async with Served().serving() as served:
        _, headers, body = await get(f"{served.url}static/uplot.js")
        assert body
        status, _, body = await get(
            f"{served.url}static/uplot.js", headers={"If-None-Match": headers["ETag"]}
        )
        assert (status, body) == (304, b"")
        assert (await get(f"{served.url}static/..%2f..%2faccess.py"))[0] == 404


async def test_a_page_that_listens_is_sent_all_and_then_what_changes() -> None:
    served = Served()
    served.note(coverage("following"), alert("a1"))
    async with served.serving(), listening(served, "range=24h") as listener:
        assert [each["state"] for each in (await listener.event("status"))["verdicts"]] == ["ok"]
        overview = await listener.event("overview")
        assert overview["totals"] == {"published": 1, "overflow": 0, "repeated": 0}
        assert [row["id"] for row in (await listener.event("page"))["rows"]] == ["a1"]
        served.note(alert("a2"), summary("a1", [("v", 5, "x")]))
        change = await listener.event("rows")
        assert [row["id"] for row in change["rows"]] == ["a2"]
        assert [(each["id"], each["repeats"]) for each in change["repeats"]] == [("a1", 5)]
        served.now_ms += 3_000
        served.note(coverage("blind", NOW_MS + 3_000))
        assert [each["state"] for each in (await listener.event("status"))["verdicts"]] == ["blind"]
        assert (await listener.event("overview"))["totals"] == {"published": 2, "overflow": 0, "repeated": 5}


async def test_only_what_the_filter_means_is_sent() -> None:
    served = Served()
    async with served.serving(), listening(served, "range=24h&rule=Shell&q=web") as listener:
        await listener.event("page")
        served.note(alert("a1", "Write"), alert("a2"), alert("a3", k8s__pod__name="other"))
        assert [row["id"] for row in (await listener.event("rows"))["rows"]] == ["a2"]


async def test_too_much_for_single_rows_is_the_list_anew() -> None:
    served = Served()
    async with served.serving(), listening(served, "range=24h") as listener:
        assert (await listener.event("page"))["rows"] == []
        served.note(*(alert(f"a{number}", time_ms=NOW_MS - number) for number in range(5_000)))
        page = await listener.event("page")
        assert [row["id"] for row in page["rows"]] == [f"a{number}" for number in range(100)]
        assert page["more"]
        older = await json(f"{served.url}api/rows?range=24h&before={page['rows'][-1]['place']}")
        assert older["rows"][0]["id"] == "a100"


async def test_while_kafka_is_away_verdicts_stay_as_they_were() -> None:
    served = Served()
    served.note(coverage("following"))
    async with served.serving():
        served.status = FeedStatus(FeedState.AWAY, "cannot reach it", contact_ms=NOW_MS, share=1.0)
        served.now_ms += 3_600_000
        found = await json(f"{served.url}api/status")
        assert found["feed"]["why"] == "cannot reach it"
        assert [each["state"] for each in found["verdicts"]] == ["ok"]


async def test_nothing_is_judged_before_what_was_there_is_read() -> None:
    served = Served()
    served.note(alert("a1"))
    served.status = FeedStatus(FeedState.LOADING, contact_ms=NOW_MS, share=0.4)
    async with served.serving():
        assert (await json(f"{served.url}api/status"))["verdicts"] == []
        assert (await get(f"{served.url}readyz"))[0] == 503
        served.status = LIVE
        assert (await get(f"{served.url}readyz"))[0] == 200


async def test_wrong_questions_are_answered_with_the_reason() -> None:
    async with Served().serving() as served:
        status, _, body = await get(f"{served.url}api/live?priority=high")
        assert status == 400
        assert orjson.loads(body)["error"].startswith("`high` is not a priority")
        assert (await get(f"{served.url}api/rows?before=x"))[0] == 400
        assert (await get(f"{served.url}api/alert?id=none"))[0] == 404


async def test_the_exact_bytes_are_a_file_that_no_browser_shows() -> None:
    served = Served()
    record = alert("a1", proc__cmdline="<script>alert(1)</script>")
    served.note(record)
    async with served.serving():
        _, headers, body = await get(f"{served.url}api/value?id=a1")
        assert body == record.value
        assert headers["Content-Type"] == "application/octet-stream"
        assert headers["Content-Disposition"].startswith("attachment")


async def test_one_viewer_too_many_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamer.view.hub.MOST_VIEWERS", 1)
    served = Served()
    async with served.serving(), listening(served) as listener:
        await listener.event("page")
        assert (await get(f"{served.url}api/live"))[0] == 503
