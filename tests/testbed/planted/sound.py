"""Set-ups in which alerts are published, some of which look odd: `doctor` is not to find a fault in them."""

from __future__ import annotations

import asyncio

from tests.testbed.forward_proxy import HttpProxy, SocksProxy
from tests.testbed.planted import Plant, Setup, print_alerts
from tests.testbed.planted.brokers import broker

SOUND: list[Plant] = []


def sound(plant: Plant) -> Plant:
    """Have a function in the list."""
    SOUND.append(plant)
    return plant


@sound
async def as_it_should_be(setup: Setup) -> None:
    """Nothing is changed."""


@sound
async def at_least_once(setup: Setup) -> None:
    setup.kafka["delivery"] = "at_least_once"


@sound
async def a_native_sidecar(setup: Setup) -> None:
    cluster = await setup.own_falco()
    pod = await cluster.add_pod("shop", containers=("shop",), sidecars=("falco",))
    print_alerts(pod, name="falco")


@sound
async def through_an_http_proxy(setup: Setup) -> None:
    proxy = await setup.stack.enter_async_context(HttpProxy())
    setup.server["proxy-url"] = proxy.url


@sound
async def through_a_socks_proxy(setup: Setup) -> None:
    proxy = await setup.stack.enter_async_context(SocksProxy(login=("u", "p")))
    setup.server["proxy-url"] = proxy.url_with("u:p")


@sound
async def a_server_that_is_not_verified(setup: Setup) -> None:
    del setup.server["certificate-authority"]
    setup.server["insecure-skip-tls-verify"] = True


@sound
async def one_of_two_bootstrap_servers_is_away(setup: Setup) -> None:
    setup.kafka["bootstrap_servers"] = ["127.0.0.1:1", setup.servers.kafka.bootstrap]


@sound
async def a_quota(setup: Setup) -> None:
    made = await broker(setup, {})
    await asyncio.to_thread(made.limit_producers, 20_000)
