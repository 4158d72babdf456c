"""Scripted faults of the simulated API server. Each is used up by the request it strikes."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import orjson

if TYPE_CHECKING:
    from collections.abc import Mapping

    from streamer.simulator.status import ApiError


@dataclass
class RequestFault:
    """What happens to requests before they are looked at: an answer of its own, or waiting for `gate`."""

    path: re.Pattern[str]
    times: int
    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    gate: asyncio.Event | None = None
    struck: int = 0


@dataclass
class StreamFault:
    """What happens inside the body of one log request, after `after_bytes` of it (None: after the backlog).

    `end`: a clean end of the body, as after the death of a kubelet. `abort`: the connection is reset,
    as after the death of the API server. `stall`: nothing more until `gate` is set, with the stream
    open. Before that, `text` is put into the body, as a kubelet does with its errors.
    """

    then: Literal["end", "abort", "stall"]
    after_bytes: int | None = 0
    text: bytes = b""
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    struck: bool = False


class Faults:
    """The faults that a server is to have; `rotation_bugs` is described at `LogReader`."""

    def __init__(self) -> None:
        self.rotation_bugs = False
        self._requests: list[RequestFault] = []
        self._streams: list[tuple[re.Pattern[str], StreamFault]] = []

    def answer(
        self,
        path: str,
        status: int,
        *,
        times: int = 1,
        retry_after_seconds: int | None = None,
        body: bytes | None = None,
        content_type: str = "text/plain",
    ) -> RequestFault:
        """Answer the next `times` requests whose path and query match a regular expression."""
        headers = {"Content-Type": content_type}
        if retry_after_seconds is not None:
            headers["Retry-After"] = str(retry_after_seconds)
        text = f"simulated {status}\n".encode() if body is None else body
        fault = RequestFault(re.compile(path), times, status, headers, text)
        self._requests.append(fault)
        return fault

    def refuse(self, path: str, error: ApiError, *, times: int = 1) -> RequestFault:
        """Answer the next matching requests with a Status object, such as those of `status`."""
        body = orjson.dumps(error.status())
        return self.answer(path, error.code, times=times, body=body, content_type="application/json")

    def hold(self, path: str, *, times: int = 1_000_000) -> RequestFault:
        """Leave matching requests without an answer until the returned fault's `gate` is set."""
        fault = RequestFault(re.compile(path), times, gate=asyncio.Event())
        self._requests.append(fault)
        return fault

    def cut_log(self, pod: str, *, after_bytes: int | None = 0, abort: bool = False) -> StreamFault:
        """End the next log stream of a pod (a regular expression on its name) after some bytes."""
        return self._strike(pod, StreamFault("abort" if abort else "end", after_bytes))

    def stall_log(self, pod: str, *, after_bytes: int | None = 0) -> StreamFault:
        """Let the next log stream of a pod fall silent after some bytes, until `gate` is set."""
        return self._strike(pod, StreamFault("stall", after_bytes))

    def text_in_log(self, pod: str, text: bytes, *, after_bytes: int | None = 0) -> StreamFault:
        """Put a kubelet's error text into the body of the next log request, which then ends with 200."""
        return self._strike(pod, StreamFault("end", after_bytes, text))

    def clear(self) -> None:
        """Forget the faults that have not struck, and let go what they hold."""
        for fault in self._requests:
            if fault.gate is not None:
                fault.gate.set()
        self._requests.clear()
        self._streams.clear()

    def for_request(self, path_and_query: str) -> RequestFault | None:
        """The fault that strikes this request, counted as used."""
        for fault in self._requests:
            if fault.path.search(path_and_query):
                fault.struck += 1
                if fault.struck == fault.times:
                    self._requests.remove(fault)
                return fault
        return None

    def for_log(self, pod: str) -> StreamFault | None:
        """The fault that strikes this log request, counted as used."""
        for n, (pattern, fault) in enumerate(self._streams):
            if pattern.fullmatch(pod):
                del self._streams[n]
                return fault
        return None

    def _strike(self, pod: str, fault: StreamFault) -> StreamFault:
        self._streams.append((re.compile(pod), fault))
        return fault
