"""Which proxy a request goes through: as Go's `httpproxy` has it, and so kubectl."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest

from streamer.flow.proxy import ProxyConfigError, Way, bypasses

FOO = "example.com,.sub.test,*.wild.test,10.0.0.0/8,192.168.1.7,fd00::/8,[fe80::1]:6443,port.test:6443,10.9.9.9:80,"


@pytest.mark.parametrize(
    ("url", "no_proxy", "bypassed"),
    [
        ("https://example.com", FOO, True),
        ("https://EXAMPLE.com:6443", FOO, True),
        ("https://foo.example.com", FOO, True),
        ("https://fooexample.com", FOO, False),
        ("https://sub.test", FOO, False),
        ("https://a.sub.test", FOO, True),
        ("https://wild.test", FOO, False),
        ("https://a.b.wild.test", FOO, True),
        ("https://10.20.30.40:6443", FOO, True),
        ("https://11.0.0.1", FOO, False),
        ("https://192.168.1.7:6443", FOO, True),
        ("https://[::ffff:192.168.1.7]:6443", FOO, True),
        ("https://192.168.1.8", FOO, False),
        ("https://[fd12::3]", FOO, True),
        ("https://[fe80::1]:6443", FOO, True),
        ("https://[fe80::1]:443", FOO, False),
        ("https://port.test:6443", FOO, True),
        ("https://port.test", FOO, False),
        ("http://plain.test:80", "plain.test:80", True),
        ("http://plain.test", "plain.test:80", True),
        ("https://plain.test", "plain.test:443", True),
        # On this machine, whatever NO_PROXY says; a name that only looks like it is not
        ("https://localhost:6443", "", True),
        ("https://127.0.0.1:6443", "", True),
        ("https://127.9.9.9", "", True),
        ("https://[::1]:6443", "", True),
        ("https://localhost.test", "", False),
        # All, and nothing
        ("https://any.test", "*", True),
        ("https://any.test", "example.com, *", True),
        ("https://1.2.3.4", " * ", True),
        ("https://any.test", "", False),
        ("https://any.test", ",, ,:80,.,/,*.,a/b", False),
        # Names are not addresses
        ("https://10.example.test", "10.0.0.0/8", False),
        ("https://1.2.3.4", "3.4", False),
        ("https://1.2.3.4", ".4", False),
    ],
)
def test_what_no_proxy_covers(url: str, no_proxy: str, bypassed: bool) -> None:
    assert bypasses(urlsplit(url), no_proxy) is bypassed


SERVER = "https://api.cluster.test:6443"


@pytest.mark.parametrize(
    ("environment", "address", "named_by"),
    [
        ({}, "", ""),
        ({"HTTP_PROXY": "http://p:1", "ALL_PROXY": "http://p:1"}, "", ""),
        ({"HTTPS_PROXY": ""}, "", ""),
        ({"HTTPS_PROXY": "http://p:1"}, "http://p:1", "HTTPS_PROXY"),
        ({"https_proxy": "http://p:1"}, "http://p:1", "https_proxy"),
        ({"HTTPS_PROXY": "http://p:1", "https_proxy": "http://q:1"}, "http://p:1", "HTTPS_PROXY"),
        ({"HTTPS_PROXY": "p:1"}, "http://p:1", "HTTPS_PROXY"),
        ({"HTTPS_PROXY": "socks5://u:x@p"}, "socks5://u:x@p", "HTTPS_PROXY"),
        ({"HTTPS_PROXY": "http://p:1", "NO_PROXY": ".cluster.test"}, "", ""),
        ({"HTTPS_PROXY": "http://p:1", "no_proxy": ".cluster.test"}, "", ""),
        ({"HTTPS_PROXY": "http://p:1", "NO_PROXY": "x", "no_proxy": ".cluster.test"}, "http://p:1", "HTTPS_PROXY"),
    ],
)  # fmt: skip
def test_what_the_environment_names(environment: dict[str, str], address: str, named_by: str) -> None:
    assert Way.to(SERVER, environment) == Way(address, named_by)


def test_plain_http_has_a_variable_of_its_own() -> None:
    environment = {"HTTP_PROXY": "http://p:1", "HTTPS_PROXY": "http://q:1"}
    assert Way.to("http://api.cluster.test", environment).address == "http://p:1"


@pytest.mark.parametrize(
    "address",
    [
        *("ftp://u:secret@p", "http://", "http://u:secret@", "p:port", "socks4://p", ":1"),
        *(f"http://u:secret@{'a' * 64}.c:1", "http://u:secret@a..b:1"),
        *("http://u:12#secret@p:1", "http://u:12?secret@p:1", "http://u:12/secret@p:1"),
    ],
)
def test_what_is_no_address_of_a_proxy_is_refused_without_its_password(address: str) -> None:
    with pytest.raises(ProxyConfigError) as caught:
        Way.to(SERVER, {"HTTPS_PROXY": address})
    assert str(caught.value) == (
        "HTTPS_PROXY is not the address of a proxy: http://, https:// or socks5://, a host and a port"
    )


def test_a_password_is_not_shown() -> None:
    assert Way.named("socks5://user:secret@p:1080", "proxy-url").shown == "socks5://p:1080"
