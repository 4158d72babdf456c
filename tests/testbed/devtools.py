"""A browser that is driven: pages are opened, used and photographed over the Chrome DevTools Protocol."""

from __future__ import annotations

import asyncio
import base64
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final

import aiohttp

from tests.testbed.browser import FLAGS, program

_START_SECONDS: Final = 60.0
_MOST_BYTES: Final = 256 << 20


class PageError(Exception):
    """The page's script threw, or the browser refused a command."""


class Page:
    """One tab. What its console says, and every address it asks for, is kept."""

    def __init__(self, browser: Browser, session: str) -> None:
        self._browser = browser
        self._session = session
        self.complaints: list[str] = []
        self.requests: list[str] = []

    async def command(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Give the tab a command of the protocol."""
        return await self._browser.command(method, parameters, self._session)

    async def open(self, url: str) -> None:
        await self.command("Page.navigate", url=url)

    async def close(self) -> None:
        await self.command("Page.close")

    async def run(self, script: str) -> Any:
        """The value of an expression in the page; a promise is awaited. Raises `PageError` where it throws."""
        done = await self.command(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True, userGesture=True
        )
        if (thrown := done.get("exceptionDetails")) is not None:
            raise PageError(thrown.get("exception", {}).get("description") or thrown.get("text"))
        return done["result"].get("value")

    async def until(self, script: str, seconds: float = 15.0) -> Any:
        """Wait until an expression is true in the page; returns its value."""
        # An element by value is an empty object.
        by_value = f"(found => found instanceof Node ? true : found)({script})"
        try:
            async with asyncio.timeout(seconds):
                while True:
                    with suppress(PageError):  # the page is being loaded
                        if found := await self.run(by_value):
                            return found
                    await asyncio.sleep(0.03)
        except TimeoutError:
            text = await self.run("document.body.innerText")
            raise AssertionError(f"never true: {script}; the page shows:\n{text}") from None

    async def text(self, selector: str) -> str:
        """The text of an element, as it is shown."""
        shown: str = await self.run(f"document.querySelector({selector!r}).innerText")
        return shown

    async def press(self, key: str) -> None:
        """Press a key where the focus is."""
        text = {"text": key} if len(key) == 1 else {"text": "\r"} if key == "Enter" else {}
        await self.command("Input.dispatchKeyEvent", type="keyDown", key=key, **text)
        await self.command("Input.dispatchKeyEvent", type="keyUp", key=key)

    async def size(self, width: int, height: int, *, scale: float = 1, mobile: bool = False) -> None:
        await self.command(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=scale, mobile=mobile,
        )  # fmt: skip

    async def scheme(self, name: str) -> None:
        """Prefer `light` or `dark`."""
        features = [{"name": "prefers-color-scheme", "value": name}]
        await self.command("Emulation.setEmulatedMedia", features=features)

    async def picture(self, file: Path, *, whole: bool = False) -> None:
        """A PNG of what is shown, or of the whole page."""
        made = await self.command("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        await asyncio.to_thread(file.write_bytes, base64.b64decode(made["data"]))

    def take(self, method: str, event: dict[str, Any]) -> None:
        """Keep what the browser reports of this tab."""
        match method:
            case "Runtime.consoleAPICalled" if event["type"] in {"error", "warning", "assert"}:
                self.complaints.append(" ".join(str(each.get("value")) for each in event["args"]))
            case "Runtime.exceptionThrown":
                self.complaints.append(str(event["exceptionDetails"]))
            case "Log.entryAdded" if event["entry"]["level"] in {"error", "warning"}:
                self.complaints.append(event["entry"]["text"] + " " + event["entry"].get("url", ""))
            case "Network.requestWillBeSent":
                self.requests.append(event["request"]["url"])
            case _:
                pass


class Browser:
    """A Chromium without a window."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._number = 0
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._pages: dict[str, Page] = {}

    async def command(
        self, method: str, parameters: dict[str, Any], session: str | None = None
    ) -> dict[str, Any]:
        """Give a command and wait for its answer. Raises `PageError`."""
        self._number += 1
        answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._answers[self._number] = answer
        sent: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        await self._socket.send_json(sent if session is None else sent | {"sessionId": session})
        return await answer

    async def page(self) -> Page:
        """Another tab, in a profile of its own."""
        context = await self.command("Target.createBrowserContext", {})
        target = await self.command(
            "Target.createTarget", {"url": "about:blank", "browserContextId": context["browserContextId"]}
        )
        attached = await self.command(
            "Target.attachToTarget", {"targetId": target["targetId"], "flatten": True}
        )
        page = self._pages[attached["sessionId"]] = Page(self, attached["sessionId"])
        for domain in ("Page", "Runtime", "Log", "Network"):
            await page.command(f"{domain}.enable")
        return page

    async def listen(self) -> None:
        """Take what the browser sends, until it is gone."""
        async for message in self._socket:
            found = message.json()
            answer = self._answers.pop(found.get("id"), None)
            if answer is not None and not answer.done():
                if "error" in found:
                    answer.set_exception(PageError(found["error"]["message"]))
                else:
                    answer.set_result(found["result"])
            elif (page := self._pages.get(found.get("sessionId", ""))) is not None:
                page.take(found["method"], found["params"])


@asynccontextmanager
async def browser(folder: Path, more: Sequence[str] = ()) -> AsyncIterator[Browser]:
    """Start it with the profile of a new user in `folder`. Raises PartMissing without Chromium."""
    command = [
        program(),
        *FLAGS,
        f"--user-data-dir={folder}",
        "--remote-debugging-port=0",
        *more,
        "about:blank",
    ]
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
    )
    reading: list[asyncio.Task[None]] = []
    try:
        assert process.stderr is not None
        async with asyncio.timeout(_START_SECONDS):
            while not (found := re.search(rb"listening on (ws://\S+)", await process.stderr.readline())):
                pass
        reading.append(asyncio.create_task(_drain(process.stderr)))
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(found[1].decode(), max_msg_size=_MOST_BYTES) as socket,
        ):
            made = Browser(socket)
            reading.append(asyncio.create_task(made.listen()))
            yield made
    finally:
        for task in reading:
            task.cancel()
        with suppress(ProcessLookupError):
            process.terminate()
        await process.wait()


async def _drain(stream: asyncio.StreamReader) -> None:
    while await stream.read(1 << 16):
        pass
