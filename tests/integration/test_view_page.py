"""The viewer's page in a real Chromium: what it shows, what can be done with it, and that no alert can do anything."""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import orjson
import pytest
import pytest_asyncio
import yaml

from streamer.sink import Message
from streamer.transform.stamp import to_rfc3339
from streamer.view.access import Access
from streamer.view.feed import FeedState, FeedStatus
from streamer.view.hub import Hub
from streamer.view.server import ViewServer
from streamer.view.store import Store
from tests.adversarial import attacks
from tests.testbed import parts
from tests.testbed.devtools import Browser, Page, browser
from tests.testbed.fixtures import parts_or_skip
from tests.testbed.view_story import story
from tests.unit.view.records import POD, alert, coverage, health, seen, summary

pytestmark = [pytest.mark.real, pytest.mark.asyncio(loop_scope="module")]

ROOT = Path(__file__).parents[2]
SIZES = {"desktop": (1440, 1100), "phone": (390, 844)}
MARKUP = (
    "<script>document.title='owned'</script>",
    "<img src=x onerror=\"document.title='owned'\">",
    "<a href=\"javascript:document.title='owned'\">x</a>",
    "<style>*{display:none}</style>",
    "{{constructor.constructor('document.title=1')()}}",
    "\u202e\u2066gnp.exe\u2069\u200b",
    "\x1b]0;owned\x07\x1b[2J\x9b2J",
    "\x00\x08\r\n\t",
    "</td></tr></table></body></html>",
    "&lt;b&gt; &#x3c;i&#x3e;",
    "https://evil.example.com/x.png",
    "__proto__",
)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def chromium(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Browser]:
    with parts_or_skip():
        async with browser(tmp_path_factory.mktemp("profile"), ["--hide-scrollbars"]) as made:
            yield made


@dataclass
class Opened:
    """The page of a server whose store a test fills."""

    page: Page
    store: Store
    hub: Hub
    url: str
    status: FeedStatus

    def note(self, *records: Message) -> None:
        self.store.note(records, now_ms(), live=False)
        self.hub.notify()

    async def rows(self) -> list[str]:
        """The rules of the rows that are shown."""
        found: list[str] = await self.page.run(
            "[...document.querySelectorAll('#rows .open')].map(e => e.innerText)"
        )
        return found

    async def until_rows(self, *rules: str) -> None:
        shown = "JSON.stringify([...document.querySelectorAll('#rows .open')].map(e => e.innerText))"
        await self.page.until(f"{shown} === {orjson.dumps(orjson.dumps(rules).decode()).decode()}")

    async def click(self, selector: str) -> None:
        await self.page.run(f"document.querySelector({selector!r}).click()")


def now_ms() -> int:
    return time.time_ns() // 1_000_000


@asynccontextmanager
async def opened(
    chromium: Browser, *records: Message, path: str = "", size: str = "desktop"
) -> AsyncIterator[Opened]:
    store = Store(now_ms())
    store.note(records, now_ms(), live=False)
    status = FeedStatus(FeedState.LIVE, contact_ms=now_ms(), share=1.0)
    hub = Hub(store, lambda: status)
    async with ViewServer(hub, Access(), host="127.0.0.1", port=0).serving() as url:
        ticking = asyncio.create_task(hub.run())
        page = await chromium.page()
        await page.size(*SIZES[size], mobile=size == "phone")
        await page.open(url + path)
        await page.until("document.getElementById('feed').innerText === 'Live'")
        try:
            yield Opened(page, store, hub, url, status)
        finally:
            await page.close()
            ticking.cancel()


def at(seconds_ago: float) -> int:
    return now_ms() - round(seconds_ago * 1000)


async def test_it_shows_what_came_and_what_comes(chromium: Browser) -> None:
    async with opened(chromium, coverage("following", at(3)), alert("a1", time_ms=at(9))) as shown:
        await shown.until_rows("Shell")
        assert (await shown.page.text("#verdicts .state")).endswith("OK")
        shown.note(alert("a2", "Write", "Critical", at(1)), summary("a1", [("v", 1234, "sh -c x")], at(0)))
        await shown.until_rows("Write", "Shell")
        await shown.page.until("document.querySelector('[data-id=a1] .repeats').innerText === '+1,234'")
        await shown.page.until("document.querySelector('#legend').innerText.includes('1,234')")
        shown.note(coverage("blind", at(0)))
        await shown.page.until("document.querySelector('#verdicts .state').innerText.endsWith('BLIND')", 10)
        assert (await shown.page.run("document.title")).startswith("BLIND")
        assert shown.page.complaints == []


async def test_a_click_filters_everything_and_the_url_says_so(chromium: Browser) -> None:
    records = (
        alert("a1", time_ms=at(4)),
        alert("a2", "Write", "Critical", at(3), k8s__ns__name="bank"),
        alert("a3", "Write", "Error", at(2)),
    )
    async with opened(chromium, *records) as shown:
        page = shown.page
        await shown.until_rows("Write", "Write", "Shell")
        await shown.click("#tops button[data-value=Write]")
        await shown.until_rows("Write", "Write")
        await shown.click("#priorities button[data-value=critical]")
        await shown.until_rows("Write")
        await page.until("document.querySelector('#legend h3 .n').innerText === '1'")
        assert await page.run("location.search") == "?rule=Write&priority=critical"
        await page.run("history.back()")
        await shown.until_rows("Write", "Write")
        other = await chromium.page()
        await other.open(f"{shown.url}?namespace=bank&range=6h")
        await other.until("document.querySelectorAll('#rows tbody tr').length === 1")
        await other.close()
        await page.run("document.getElementById('q').focus()")
        await page.run("document.execCommand('insertText', false, 'nobody has this')")
        await page.until("document.getElementById('empty').innerText.includes('No alert matches')")
        await shown.click("#empty button")
        await shown.until_rows("Write", "Write", "Shell")
        assert page.complaints == []


async def test_a_value_can_be_left_out_and_a_condition_be_typed(chromium: Browser) -> None:
    records = (
        alert("a1", time_ms=at(4)),
        alert("a2", "Write", time_ms=at(3), proc__name="nc"),
        alert("a3", "Write", time_ms=at(2)),
    )
    async with opened(chromium, *records) as shown:
        page = shown.page
        await shown.until_rows("Write", "Write", "Shell")
        leave_out = "new MouseEvent('click', {shiftKey: true, bubbles: true})"
        await page.run(f"document.querySelector('#tops button[data-value=Shell]').dispatchEvent({leave_out})")
        await shown.until_rows("Write", "Write")
        assert await page.run("location.search") == "?not.rule=Shell"
        for condition, shows in (
            ('foo = "x"', "document.getElementById('banner').innerText.includes('there is no `foo`')"),
            ('proc.name = "nc"', "document.getElementById('banner').hidden"),
        ):
            await page.run("document.getElementById('q').focus()")
            await page.run(f"document.execCommand('insertText', false, {condition!r})")
            await page.press("Enter")
            await page.until(shows)
            if "foo" in condition:
                await page.run("document.querySelector('#active [aria-label^=\"Remove where\"]').click()")
                await shown.until_rows("Write", "Write")
        await shown.until_rows("Write")
        assert "where=proc.name" in await page.run("location.search")
        assert [each for each in page.complaints if "400" not in each] == []


async def test_it_pauses_and_goes_on_without_a_hole(chromium: Browser) -> None:
    async with opened(chromium, alert("a1", time_ms=at(5))) as shown:
        await shown.until_rows("Shell")
        await shown.page.press("p")
        shown.note(alert("a2", "Write", time_ms=at(2)))
        await shown.page.until("document.getElementById('list-note').innerText === 'Paused, 1 new'")
        assert await shown.rows() == ["Shell"]
        shown.note(alert("a3", "Third", time_ms=at(1)))
        await shown.page.until("document.getElementById('list-note').innerText === 'Paused, 2 new'")
        await shown.page.press("p")
        await shown.until_rows("Third", "Write", "Shell")


async def test_it_is_used_by_keys(chromium: Browser) -> None:
    async with opened(chromium, alert("a1", time_ms=at(5)), alert("a2", "Write", time_ms=at(4))) as shown:
        page = shown.page
        await shown.until_rows("Write", "Shell")
        for key in ("j", "j", "Enter"):
            await page.press(key)
        await page.until("document.querySelector('#detail h2')?.innerText === 'Shell'")
        await page.press("k")
        await page.until("document.querySelector('#detail h2').innerText === 'Write'")
        await page.press("Escape")
        await page.until("document.getElementById('detail').hidden")
        await page.press("/")
        assert await page.run("document.activeElement.id") == "q"
        await page.press("Escape")
        await page.press("2")
        await page.until("location.search === '?range=6h'")
        await page.press("?")
        assert await page.run("document.getElementById('help').open")


async def test_details_have_everything(chromium: Browser) -> None:
    record = alert("a1", time_ms=at(5), proc__ino=18446744073709551615, proc__cmdline="sh -c 'id'")
    repeats = summary("a1", [("v1", 3, "sh -c one"), ("v2", 2, "sh -c two")], at(1))
    async with opened(chromium, record, repeats, path="?id=a1") as shown:
        page = shown.page
        await page.until("document.querySelector('#detail h2')")
        text = await page.run("document.getElementById('detail').textContent")
        told = (
            "18446744073709551615",
            "sh -c one",
            "sh -c two",
            "Repeats: 5, 2 variants",
            "ce_id",
            "T1059",
            "offset",
        )
        assert [part for part in told if part not in text] == []
        assert (record.value or b"").decode() in text
        await page.run(
            "navigator.clipboard.writeText = (text) => { window.copied = text; return Promise.resolve() }; 0"
        )
        buttons = "[...document.querySelectorAll('#detail .actions button')]"
        await page.run(f"{buttons}.find(each => each.textContent === 'Filter').click()")
        copied = yaml.safe_load(await page.until("window.copied"))
        assert copied["filters"][0]["match"][-2:] == ["proc.cmdline = \"sh -c 'id'\"", 'user.name = "root"']
        assert page.complaints == []


async def test_hostile_text_stays_text(chromium: Browser) -> None:
    rng = random.Random(7)
    records = [alert(f"m{n}", text, time_ms=at(n), node=text, **every(text)) for n, text in enumerate(MARKUP)]
    records.append(
        alert("long", "Long", time_ms=at(1), proc__cmdline="<b>" + "x" * 100_000, evt__args="\u202e" * 1000)
    )
    made = (attacks.variants, attacks.padding, attacks.odd_values, attacks.long_texts, attacks.other_fields)
    for number, attack in enumerate(made):
        for line in attack(rng).lines[:12]:
            records.append(
                seen(line.body, time_ms=at(20 + number), ce_id=f"x{len(records)}", cluster="<b>c</b>")
            )
    hostile = replace(POD, pod=MARKUP[1], node=MARKUP[0], namespace=MARKUP[4])
    gap: dict[str, Any] = {
        "reason": MARKUP[0],
        "certain": True,
        "from": to_rfc3339(at(60) * 10**6),
        "to": None,
    }
    records += [coverage("blind", at(2), hostile), health("gap", at(2), hostile, **gap)]
    records += [coverage("text", at(1), cluster=MARKUP[1])]
    async with opened(chromium, *records) as shown:
        page = shown.page
        await page.until(f"document.querySelectorAll('#rows tbody tr').length >= {len(MARKUP)}")
        identities = await page.run("[...document.querySelectorAll('#rows tbody tr')].map(e => e.dataset.id)")
        assert "long" in identities
        for identity in identities:
            await page.run(f"document.querySelector('[data-id=\"{identity}\"]').click()")
            await page.until(f"document.getElementById('detail').dataset.id === '{identity}'", 5)
        await shown.click("#tab-coverage")
        await page.until("document.querySelector('#view-coverage table')")
        elements = (
            "body script",
            "main img",
            "aside img",
            "main style",
            "main a[href^=javascript]",
            "main [onerror]",
        )
        for forbidden in elements:
            assert await page.run(f"document.querySelectorAll({forbidden!r}).length") == 0, forbidden
        invisible = "/[\\u202a-\\u202e\\u2066-\\u2069\\u001b\\u009b\\u200b]/"
        assert not await page.run(f"{invisible}.test(document.body.innerText)")
        assert "owned" not in await page.run("document.title")
        assert page.complaints == []
        assert {each for each in page.requests if not each.startswith(shown.url)} == set()


def every(text: str) -> dict[str, Any]:
    """The text in every field that the list shows."""
    names = (
        "k8s.ns.name",
        "k8s.pod.name",
        "proc.name",
        "proc.cmdline",
        "user.name",
        "container.image.repository",
    )
    return {name.replace(".", "__"): text for name in names} | {"tags": (text,)}


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", ["desktop", "phone"])
async def test_axe_finds_no_serious_violation(chromium: Browser, scheme: str, size: str) -> None:
    with parts_or_skip():
        script = (parts.npm_package("axe-core") / "axe.min.js").read_text()
    async with opened(chromium, *story(), size=size) as shown:
        page = shown.page
        await page.scheme(scheme)
        await page.until("document.querySelectorAll('#rows tbody tr').length > 20")
        await page.run(f"{script}; 0")
        for prepare in (
            "0",
            "document.querySelector('#rows .count').closest('tr').click()",
            "document.getElementById('tab-coverage').click()",
        ):
            await page.run(prepare)
            await page.until("location.search.includes('id=') ? document.querySelector('#detail h2') : true")
            await page.until("document.getAnimations().every(each => each.playState !== 'running')")
            found = await page.run("axe.run(document, {resultTypes: ['violations']}).then(r => r.violations)")
            serious = [
                f"{each['id']}: {node['html'][:160]} {node['failureSummary'][:300]}"
                for each in found
                if each["impact"] in {"serious", "critical"}
                for node in each["nodes"]
            ]
            assert serious == [], "\n".join(serious)


async def test_it_is_photographed(chromium: Browser, tmp_path: Path) -> None:
    """`VIEW_PICTURES=docs/images` renews those of the documentation."""
    folder = Path(os.environ.get("VIEW_PICTURES") or tmp_path)
    async with opened(chromium, *story()) as shown:
        page = shown.page
        await page.until("document.querySelectorAll('#rows tbody tr').length > 20")
        for name, scheme, size, prepare in (
            ("view", "light", "desktop", "0"),
            ("view-dark", "dark", "desktop", "0"),
            (
                "view-alert",
                "light",
                "desktop",
                "document.querySelector('#rows .count').closest('tr').click()",
            ),
            ("view-coverage", "light", "desktop", "document.getElementById('tab-coverage').click()"),
            ("view-phone", "light", "phone", "document.getElementById('tab-alerts').click()"),
        ):
            await page.scheme(scheme)
            await page.size(*SIZES[size], mobile=size == "phone")
            await page.run(f"{prepare}; document.activeElement.blur()")
            await page.until("location.search.includes('id=') ? document.querySelector('#detail h2') : true")
            await page.until(
                "location.search.includes('coverage') ? document.querySelector('.coverage') : true"
            )
            await page.until("document.getAnimations().every(each => each.playState !== 'running')")
            await page.until(
                "new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done(true))))"
            )
            await page.picture(folder / f"{name}.png")
            if "id=" in await page.run("location.search"):
                await page.press("Escape")
        assert (await asyncio.to_thread((folder / "view.png").stat)).st_size > 50_000


async def test_on_a_phone_nothing_is_wider_than_the_screen(chromium: Browser) -> None:
    async with opened(chromium, *story(), size="phone") as shown:
        await shown.page.until("document.querySelectorAll('#rows tbody tr').length > 20")
        assert await shown.page.run("document.documentElement.scrollWidth") <= SIZES["phone"][0]
        assert await shown.page.run("innerWidth") <= SIZES["phone"][0]


async def test_a_viewer_that_goes_away_is_reported_and_the_page_goes_on_where_it_was(
    chromium: Browser,
) -> None:
    store, status = Store(now_ms()), FeedStatus(FeedState.LIVE, contact_ms=now_ms(), share=1.0)
    hub = Hub(store, lambda: status)
    store.note([alert("a1", time_ms=at(5))], now_ms(), live=False)
    page = await chromium.page()
    async with ViewServer(hub, Access(), host="127.0.0.1", port=0).serving() as url:
        await page.open(url)
        await page.until("document.querySelectorAll('#rows tbody tr').length === 1")
    await page.until("document.getElementById('banner').innerText.includes('does not answer')")
    assert await page.text("#feed") == "Disconnected"
    store.note([alert("a2", "Write", time_ms=at(1))], now_ms(), live=False)
    port = int(url.rstrip("/").rpartition(":")[2])
    status.state, status.why = FeedState.AWAY, "cannot reach kafka:9092: connection refused"
    async with ViewServer(hub, Access(), host="127.0.0.1", port=port).serving():
        await page.until("document.querySelectorAll('#rows tbody tr').length === 2")
        ticking = asyncio.create_task(hub.run())
        await page.until("document.getElementById('feed').innerText === 'Kafka is away'")
        assert "connection refused" in await page.text("#banner")
        status.state = FeedState.LIVE
        await page.until("document.getElementById('banner').hidden")
        ticking.cancel()
    await page.close()


async def test_a_token_is_asked_for_and_kept_by_the_tab(chromium: Browser, tmp_path: Path) -> None:
    file = tmp_path / "token"
    await asyncio.to_thread(file.write_text, "a-token-that-nobody-guesses")
    store, status = Store(now_ms()), FeedStatus(FeedState.LIVE, contact_ms=now_ms(), share=1.0)
    store.note([alert("a1", time_ms=at(5))], now_ms(), live=False)
    async with ViewServer(
        Hub(store, lambda: status), Access(file), host="127.0.0.1", port=0
    ).serving() as url:
        page = await chromium.page()
        await page.open(url)
        await page.until("document.getElementById('token').open")
        for given, shown in (("wrong", "not the right one"), ("a-token-that-nobody-guesses", "")):
            await page.run(f"document.getElementById('token-value').value = {given!r}")
            await page.run("document.getElementById('token-send').click()")
            if shown:
                await page.until(f"document.getElementById('token-note').innerText.includes({shown!r})")
        await page.until("document.querySelectorAll('#rows tbody tr').length === 1")
        await page.run("location.reload()")
        await page.until("document.querySelectorAll('#rows tbody tr').length === 1")
        await page.close()


async def test_the_charting_library_is_the_one_of_the_registry() -> None:
    with parts_or_skip():
        package = parts.npm_package("uplot")
    static = ROOT / "streamer" / "view" / "static"
    copies = {
        "uplot.js": "dist/uPlot.esm.js",
        "uplot.css": "dist/uPlot.min.css",
        "uplot-license.txt": "LICENSE",
    }
    for name, of in copies.items():
        assert (static / name).read_bytes() == (package / of).read_bytes(), name


async def test_an_empty_list_says_why_it_is_empty(chromium: Browser) -> None:
    async with opened(chromium, coverage("following", at(3))) as shown:
        empty = "document.getElementById('empty').innerText.includes"
        await shown.page.until(f"{empty}('No alerts in this time')")
        for state, says in (
            (FeedState.LOADING, "Reading the topics"),
            (FeedState.AWAY, "Kafka is away"),
            (FeedState.LIVE, "No alerts in this time"),
        ):
            shown.status.state = state
            shown.hub.notify()
            await shown.page.until(f"{empty}({says!r})")
