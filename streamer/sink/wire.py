"""Kafka's records, format 2, as bytes.

Our own encoder instead of aiokafka's builder, because it is cheaper: what many records share, their headers above
all, is encoded once.
"""

from __future__ import annotations

from typing import Final

from streamer.model.record import Headers

_OWN_HEADERS: Final = 2
"""The core puts a record's own headers (`ce_id`, `ce_time`) first; the rest is the same for many records."""

_REMEMBERED: Final = 4_096


def _varint(number: int) -> bytes:
    """A number as Kafka's records have it: zigzag, seven bits a byte."""
    rest = (number << 1) ^ (number >> 63)
    out = bytearray()
    while rest > 0x7F:
        out.append(rest & 0x7F | 0x80)
        rest >>= 7
    out.append(rest)
    return bytes(out)


_TABLE: Final = 16_384
_SMALL: Final = [_varint(number) for number in range(_TABLE)]
_NULL: Final = _varint(-1)


def varint(number: int) -> bytes:
    """A number as Kafka's records have it; lengths and offsets mostly come out of a table."""
    return _SMALL[number] if 0 <= number < _TABLE else _varint(number)


class HeaderEncoder:
    """Encodes headers, remembering the wire form of those that come again and again."""

    __slots__ = ("_names", "_shared")

    def __init__(self) -> None:
        self._names: dict[str, bytes] = {}
        self._shared: dict[int, tuple[Headers, bytes, bytes]] = {}

    def encode(self, headers: Headers) -> bytes:
        """The headers of one record."""
        if len(headers) <= _OWN_HEADERS:
            return varint(len(headers)) + self._plain(headers)
        # The identity only finds the candidate; equality, quick among the same objects, decides.
        known = self._shared.get(id(headers[_OWN_HEADERS]))
        if known is None or known[0] != headers[_OWN_HEADERS:]:
            known = self._remember(headers)
        _, count, shared = known
        first, one = headers[0]
        second, two = headers[1]
        return b"".join(
            (
                count,
                self._names.get(first) or self._name(first),
                _SMALL[len(one)] if len(one) < _TABLE else _varint(len(one)),
                one,
                self._names.get(second) or self._name(second),
                _SMALL[len(two)] if len(two) < _TABLE else _varint(len(two)),
                two,
                shared,
            )
        )

    def _remember(self, headers: Headers) -> tuple[Headers, bytes, bytes]:
        if len(self._shared) >= _REMEMBERED:
            self._shared.clear()
        shared = headers[_OWN_HEADERS:]
        known = (shared, varint(len(headers)), self._plain(shared))
        self._shared[id(shared[0])] = known
        return known

    def _plain(self, headers: Headers) -> bytes:
        return b"".join(part for name, value in headers for part in (self._name(name), prefixed(value)))

    def _name(self, name: str) -> bytes:
        known = self._names.get(name)
        if known is None:
            known = prefixed(name.encode())
            if len(self._names) < _REMEMBERED:
                self._names[name] = known
        return known


def prefixed(text: bytes) -> bytes:
    """Bytes with their length before them."""
    return varint(len(text)) + text


def record_body(offset: int, delta_ms: int, key: bytes, value: bytes | None, headers: bytes = b"\0") -> bytes:
    """One record without its length; `offset` and `delta_ms` count from the batch's first.

    `key` has its length before it, `headers` are encoded.
    """
    if value is None:
        size, value = _NULL, b""
    else:
        length = len(value)
        size = _SMALL[length] if length < _TABLE else _varint(length)
    return b"".join(
        (
            b"\0",
            _SMALL[delta_ms] if 0 <= delta_ms < _TABLE else _varint(delta_ms),
            _SMALL[offset] if offset < _TABLE else _varint(offset),
            key,
            size,
            value,
            headers,
        )
    )
