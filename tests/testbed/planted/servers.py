"""Ports on loopback at which somebody else answers, or nobody does."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager

from aiohttp import web


@contextmanager
def silent() -> Iterator[int]:
    """A port that accepts and says nothing, as behind a firewall that swallows."""
    with socket.create_server(("127.0.0.1", 0), backlog=100) as server:
        yield int(server.getsockname()[1])


async def slamming(stack: AsyncExitStack) -> int:
    """A port that closes every connection at once, as a load balancer without a server behind it."""

    async def close(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    server = await asyncio.start_server(close, "127.0.0.1", 0)
    stack.callback(server.close)
    return int(server.sockets[0].getsockname()[1])


async def html_page(stack: AsyncExitStack) -> int:
    """A port that answers everything with a page for people."""

    async def answer(_: web.Request) -> web.Response:
        return web.Response(text="<!DOCTYPE html><title>Log in</title>", content_type="text/html")

    return await _serve(stack, answer)


async def refusing(stack: AsyncExitStack, status: int) -> int:
    """A port that answers everything with one status, as an API server does."""

    async def answer(_: web.Request) -> web.Response:
        body = {
            "kind": "Status",
            "apiVersion": "v1",
            "status": "Failure",
            "code": status,
            "message": "not now",
        }
        return web.json_response(body, status=status)

    return await _serve(stack, answer)


async def _serve(stack: AsyncExitStack, answer: object) -> int:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)  # type: ignore[arg-type]
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    return int(runner.addresses[0][1])
