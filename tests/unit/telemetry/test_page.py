"""The live page: it shows how the worker stands, worst first, and nothing in it can act."""

from __future__ import annotations

from dataclasses import replace
from html.parser import HTMLParser

import aiohttp
import orjson
import pytest

from streamer.model import Ledger, Target
from streamer.telemetry.http import HttpServer
from streamer.telemetry.page import MOST_TARGETS, page
from streamer.telemetry.status import (
    Check,
    CheckState,
    FilterStatus,
    ShardStatus,
    Status,
    StreamState,
    TargetStatus,
)

LEDGER = Ledger(lines=4_000, alerts=3_000, log_lines=1_000, published=2_000, deduplicated=1_000, summaries=7)
SHARD = ShardStatus(3, True, 12_345, LEDGER, 2_048, 0.0, 0.0, 17, 2, 0, "working")
CHECKS = [Check("topics verified", CheckState.OK), Check("pods found", CheckState.OK, needed=False)]
WELL = Status("prod-eu-1", CHECKS, [SHARD])


def target(name: str, state: StreamState = StreamState.FOLLOWING, unread: float = 0.0) -> TargetStatus:
    return TargetStatus(Target("falco", name, "u", "falco", "node-1"), state, True, unread, 0.0, 90.0)


class Seen(HTMLParser):
    """The page's text by rows, and whether its tags close in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.rows: list[list[str]] = []
        self.big = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "meta":
            return
        self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if any(("class", f"big {mood}") in attrs for mood in ("well", "ill", "slow", "unknown")):
            self.open[-1] = "big"

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() in {tag, "big"}

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "big":
            self.big = data
        if self.open and self.open[-1] in {"td", "th"}:
            self.rows[-1].append(data)


def test_it_shows_conditions_ledger_shards_and_targets() -> None:
    seen = Seen(page(replace(WELL, targets=[target("falco-a")])))
    assert seen.big == "All is well"
    assert ["✓ topics verified", "ok"] in seen.rows
    assert ["published", "2,000", "50.0%"] in seen.rows
    assert ["3", "working", "12,345", "4,000", "17", "2,048", "0 s", "0 s"] in seen.rows
    assert ["falco/falco-a", "falco", "node-1", "following", "0 s", "0 s", "90 s"] in seen.rows


@pytest.mark.parametrize(
    ("status", "told"),
    [
        (
            replace(WELL, checks=[Check("pods listed"), Check("state loaded", CheckState.FAILING, "no")]),
            "Not ready: state loaded",
        ),
        (replace(WELL, checks=[*CHECKS, Check("state loaded")]), "Not ready yet: state loaded"),
        (
            replace(WELL, checks=[Check("pods found", CheckState.FAILING, "no pod", needed=False)]),
            "Running, but failing: pods found",
        ),
        (
            replace(WELL, checks=[*CHECKS, Check("Kafka takes records", needed=False)]),
            "Ready, not checked yet: Kafka takes records",
        ),
        (
            replace(WELL, targets=[target("a", StreamState.WAITING, 7_300.0)]),
            "Running, lag 2 h",
        ),
        (
            replace(WELL, shards=[replace(SHARD, ledger=Ledger(lines=1))]),
            "The ledger does not balance",
        ),
    ],
)
def test_what_is_wrong_stands_at_the_top(status: Status, told: str) -> None:
    assert Seen(page(status)).big == told


def test_what_nobody_has_checked_is_not_shown_as_well() -> None:
    status = replace(WELL, checks=[*CHECKS, Check("Kafka takes records", why="nothing yet", needed=False)])
    assert ["? Kafka takes records", "unknown: nothing yet"] in Seen(page(status)).rows
    assert "All is well" not in page(status)


def test_the_worst_targets_come_first_and_there_is_a_bound() -> None:
    many = [target(f"falco-{n:04}") for n in range(MOST_TARGETS + 50)]
    ill = replace(target("falco-z", StreamState.WAITING, 5.0), cause="HTTP 500: no route to host")
    rows = [
        row for row in Seen(page(replace(WELL, targets=[*many, ill]))).rows if row[0].startswith("falco/")
    ]
    assert len(rows) == MOST_TARGETS
    assert rows[0][:5] == ["falco/falco-z", "falco", "node-1", "waiting", "5.0 s"]
    assert rows[0][-1] == "HTTP 500: no route to host"


def test_nothing_of_the_cluster_can_be_markup() -> None:
    evil = '<script>alert("&")</script>'
    status = Status(
        evil, [Check(evil, CheckState.FAILING, evil)], [replace(SHARD, condition=evil)], [target(evil)]
    )
    text = page(replace(status, facts={"version": evil}))
    assert "<script" not in text
    assert ["✗ " + evil, f"failing: {evil}"] in Seen(text).rows


async def test_it_is_served_and_allows_nothing_but_its_style() -> None:
    async with (
        HttpServer("127.0.0.1", 0, lambda: WELL).serving() as port,
        aiohttp.ClientSession() as session,
        session.get(f"http://127.0.0.1:{port}/") as answer,
    ):
        assert (answer.status, answer.content_type) == (200, "text/html")
        assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'; ")
        assert "All is well" in await answer.text()


def test_each_filter_has_a_row_with_its_share() -> None:
    argo = FilterStatus(
        "argo", "drop", "Argo CD may", 30, 100, 0.2, "2027-01-31T00:00:00+00:00", expired=True
    )
    keep = FilterStatus("filters[1]", "keep", "<b>", 0, 100, None, "", expired=False)
    rows = Seen(page(replace(WELL, filters=[argo, keep]))).rows
    assert [
        "argo",
        "drop, expired",
        "30",
        "30.0%",
        "20.0%",
        "2027-01-31T00:00:00+00:00",
        "Argo CD may",
    ] in rows
    assert ["filters[1]", "keep", "<b>"] in [[cell for cell in row if cell] for row in rows]
    assert "Filters" not in page(WELL)


def with_volatile(*shards: dict[str, list[str]]) -> Status:
    return replace(
        WELL, shards=[replace(SHARD, index=n, volatile_fields=one) for n, one in enumerate(shards)]
    )


class TestVolatileFields:
    def test_of_all_shards_stand_together_on_the_page_and_in_the_status(self) -> None:
        status = with_volatile({"acme": ["acme.ts", "acme.id"]}, {"acme": ["acme.seq"], "zeta": ["z.id"]})
        rows = Seen(page(status)).rows
        assert ["acme", "acme.id, acme.seq, acme.ts"] in rows
        assert ["zeta", "z.id"] in rows
        found = status.as_dict()
        assert found["volatile_fields"] == {
            "sources": (
                {"source": "acme", "fields": ("acme.id", "acme.seq", "acme.ts"), "more_fields": 0},
                {"source": "zeta", "fields": ("z.id",), "more_fields": 0},
            ),
            "more_sources": 0,
        }
        assert "volatile_fields" not in found["shards"][0]
        assert "nearly every alert" not in page(WELL)

    def test_have_a_bound_in_number_and_length(self) -> None:
        one = {
            f"{n:04}" + "s" * 5_000: [f"{field:04}" + "f" * 5_000 for field in range(500)] for n in range(500)
        }
        status = with_volatile(one, one, one)
        assert len(page(status)) < len(page(with_volatile({}, {}, {}))) + 60_000
        found = status.as_dict()["volatile_fields"]
        assert len(orjson.dumps(found)) < 60_000
        assert len(found["sources"]) + found["more_sources"] == 500
        assert {len(each["fields"]) + each["more_fields"] for each in found["sources"]} == {500}
        assert "and 484 more" in page(status)
        assert "and 468 more" in page(status)

    def test_cannot_act_in_a_browser(self) -> None:
        evil = "<script>alert('&\"')</script>"
        text = page(with_volatile({evil: [evil, "a\u202egnp.exe", "b\x1b[2J\n", "c\u2028"]}))
        assert "<script" not in text
        assert not {"\u202e", "\x1b", "\u2028"} & set(text)
        (row,) = [row for row in Seen(text).rows if row[0] == evil]
        assert row[1] == rf"{evil}, a\u202egnp.exe, b\x1b[2J\n, c\u2028"


def test_it_links_to_the_viewer_where_one_is_set() -> None:
    assert "The alerts" not in page(WELL)
    found = page(replace(WELL, facts={"view_url": 'https://alerts.example.com/?a=1&b="'}))
    assert '<a href="https://alerts.example.com/?a=1&amp;b=&quot;">The alerts</a>' in found
