"""A corpus of requests that two servers may read in two ways, made from a seed.

Each sample is a first request with zero, one or two oddities, and what a client sends after it. The
targets carry the sample's number, so that it is seen who takes what for a request.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from random import Random

BODY = b"hello"


@dataclass
class Request:
    """A request in the making."""

    number: int
    method: bytes = b"POST"
    target: bytes = b""
    line: bytes = b"%b %b HTTP/1.1\r\n"
    headers: list[bytes] = field(default_factory=list)
    framing: list[bytes] = field(default_factory=list)
    body: bytes = b""
    host: list[bytes] = field(default_factory=lambda: [b"Host: localhost\r\n"])
    end: bytes = b"\r\n"

    def raw(self) -> bytes:
        """Return the bytes of the request."""
        line = self.line % (self.method, self.target or b"/first%d" % self.number)
        return b"".join([line, *self.host, *self.headers, *self.framing, self.end, self.body])


@dataclass(frozen=True)
class Sample:
    """What a client sends on one connection."""

    number: int
    oddities: tuple[str, ...]
    raw: bytes

    @property
    def is_ordinary(self) -> bool:
        """Return whether both requests must be accepted as they are."""
        return not self.oddities


Oddity = Callable[[Request], None]


def _header(line: bytes) -> Oddity:
    return lambda request: request.headers.append(line)


def _framed(*lines: bytes, body: bytes = BODY) -> Oddity:
    def apply(request: Request) -> None:
        request.framing, request.body = list(lines), body

    return apply


def _host(*lines: bytes) -> Oddity:
    def apply(request: Request) -> None:
        request.host = list(lines)

    return apply


def _line(line: bytes) -> Oddity:
    def apply(request: Request) -> None:
        request.line = line

    return apply


def _smuggled(number: int) -> bytes:
    return b"GET /smuggled%d HTTP/1.1\r\nHost: localhost\r\n\r\n" % number


def _lengths() -> Iterator[tuple[str, Oddity]]:
    values = [
        b"+5",
        b"-5",
        b"05",
        b"5 5",
        b"5, 5",
        b"5,6",
        b"0x5",
        b"5\t",
        b"\t5",
        b"5;",
        b"",
        b" ",
    ]
    values += [b"5.0", b"5e0", b"1_0", b"\xb2", b"99999999999999999999", b"0" * 30 + b"5", b"\v5"]
    for value in values:
        yield f"length {value!r}", _framed(b"Content-Length: " + value + b"\r\n")
    length = b"Content-Length: 5\r\n"
    yield "length twice", _framed(length, length)
    yield "lengths differ", _framed(length, b"Content-Length: 6\r\n")
    for name in (b"Content-Length ", b"Content-Length\t", b"Content_Length", b"Content-Length\x00"):
        yield f"name {name!r}", _framed(name + b": 5\r\n")
    yield "length folded", _framed(b"Content-Length:\r\n 5\r\n")


def _codings() -> Iterator[tuple[str, Oddity]]:
    chunked = b"5\r\nhello\r\n0\r\n\r\n"
    values = [
        b"Chunked",
        b" chunked ",
        b"chunked\t",
        b"xchunked",
        b"gzip, chunked",
        b"chunked, gzip",
    ]
    values += [b"chunked, chunked", b"chunked;q=1", b"identity", b"identity, chunked", b"gzip", b""]
    values += [b"\vchunked", b"chunked\x00", b'"chunked"', b"chunked,", b",chunked", b"chunke\xe4"]
    for value in values:
        yield (
            f"coding {value!r}",
            _framed(b"Transfer-Encoding: " + value + b"\r\n", body=chunked),
        )
    coding, length = b"Transfer-Encoding: chunked\r\n", b"Content-Length: 5\r\n"
    yield "coding, length", _framed(coding, length, body=chunked)
    yield "length, coding", _framed(length, coding, body=chunked)
    yield "coding twice", _framed(coding, coding, body=chunked)
    yield "coding, identity", _framed(coding, b"Transfer-Encoding: identity\r\n", body=chunked)
    for name in (b"Transfer-Encoding ", b" Transfer-Encoding", b"Transfer_Encoding", b"Transfer\r"):
        yield f"name {name!r}", _framed(name + b": chunked\r\n", body=chunked)
    yield "coding folded", _framed(b"Transfer-Encoding:\r\n chunked\r\n", body=chunked)
    yield "coding in 1.0", _both(_line(b"%b %b HTTP/1.0\r\n"), _framed(coding, body=chunked))


def _both(*oddities: Oddity) -> Oddity:
    def apply(request: Request) -> None:
        for oddity in oddities:
            oddity(request)

    return apply


def _chunks() -> Iterator[tuple[str, Oddity]]:
    coding = b"Transfer-Encoding: chunked\r\n"
    bodies = [
        *(b"0x5\r\nhello\r\n0\r\n\r\n", b"5 \r\nhello\r\n0\r\n\r\n", b" 5\r\nhello\r\n0\r\n\r\n"),
        *(b"+5\r\nhello\r\n0\r\n\r\n", b"-1\r\nhello\r\n0\r\n\r\n", b"5\nhello\n0\n\n"),
        *(b"5\r\nhello0\r\n\r\n", b"5\r\nhelloXX0\r\n\r\n", b"4\r\nhello\r\n0\r\n\r\n"),
        *(b"6\r\nhello\r\n0\r\n\r\n", b"5;a=b\r\nhello\r\n0\r\n\r\n", b"5;\nhello\r\n0\r\n\r\n"),
        *(b"5;a\rb\r\nhello\r\n0\r\n\r\n", b'5;a="\r\n"\r\nhello\r\n0\r\n\r\n'),
        *(b"g\r\nhello\r\n0\r\n\r\n", b"\r\n5\r\nhello\r\n0\r\n\r\n", b"5\r\r\nhello\r\n0\r\n\r\n"),
        *(b"10000000000000005\r\nhello\r\n0\r\n\r\n", b"FFFFFFFFFFFFFFFF\r\nhello\r\n0\r\n\r\n"),
        *(b"00000005\r\nhello\r\n0\r\n\r\n", b"5\r\nhello\r\n0\r\nA: b\r\n\r\n"),
        *(b"5\r\nhello\r\n0\r\nA\r\n\r\n", b"5\r\nhello\r\n0\r\n A: b\r\n\r\n"),
        *(b"5\r\nhello\r\n0\r\nA : b\r\n\r\n", b"5\r\nhello\r\n0\r\nContent-Length: 50\r\n\r\n"),
        *(b"5\r\nhello\r\n0\r\nA: \x00\r\n\r\n", b"5\r\nhello\r\n0\n\n", b"5\r\nhello\r\n0\r\n\n"),
        *(b"5\r\nhello\r\n00\r\n\r\n", b"5\r\nhello\r\n0;last\r\n\r\n", b"5\r\nhel"),
    ]
    for body in bodies:
        yield f"chunks {body!r}", _framed(coding, body=body)


def _hosts() -> Iterator[tuple[str, Oddity]]:
    yield "no host", _host()
    yield "two hosts", _host(b"Host: localhost\r\n", b"Host: other\r\n")
    yield "host twice", _host(b"Host: localhost\r\n", b"Host: localhost\r\n")
    values = [
        b"",
        b"a b",
        b"a/b",
        b"a@b",
        b"a:b",
        b"a:80:80",
        b"[::1",
        b"a\\b",
        b"a?b",
        b"a#b",
        b"a,b:",
    ]
    values += [b"a\x00", b"\xe4", b"[::1]x", b"<a>", b'"a"', b"a^b", b"a|b", b"{a}", b"a`b", b"%zz"]
    for value in values:
        yield f"host {value!r}", _host(b"Host: " + value + b"\r\n")
    yield "host folded", _host(b"Host: localhost\r\n .evil\r\n")
    yield "host with a blank", _host(b"Host : localhost\r\n")


def _lines() -> Iterator[tuple[str, Oddity]]:
    lines = [
        b"%b  %b HTTP/1.1\r\n",
        b"%b\t%b HTTP/1.1\r\n",
        b"%b %b  HTTP/1.1\r\n",
        b"%b %b HTTP/1.1 \r\n",
    ]
    lines += [b"%b %b HTTP/1.1\n", b"%b %b\r\n", b"%b %b http/1.1\r\n", b"%b %b HTTP/2.0\r\n"]
    lines += [
        b"%b %b HTTP/1.2\r\n",
        b"%b %b HTTP/1.10\r\n",
        b"%b %b HTTP/01.1\r\n",
        b"%b %b HTTP/0.9\r\n",
    ]
    lines += [
        b" %b %b HTTP/1.1\r\n",
        b"\r\n%b %b HTTP/1.1\r\n",
        b"\n%b %b HTTP/1.1\r\n",
        b"%b %b HTTP/\r\n",
    ]
    lines += [
        b"x%b %b HTTP/1.1\r\n",
        b"%b %b#f HTTP/1.1\r\n",
        b"%b %b x HTTP/1.1\r\n",
        b"%b %b\x00 HTTP/1.1\r\n",
    ]
    lines += [
        b"%b %b\r HTTP/1.1\r\n",
        b"%b %b HTTP/1.1\r\r\n",
        b"%b http://localhost%b HTTP/1.1\r\n",
    ]
    lines += [b"%b http://other%b HTTP/1.1\r\n", b"%b %b\xe4 HTTP/1.1\r\n", b"%b x%b HTTP/1.1\r\n"]
    for line in lines:
        yield f"line {line!r}", _line(line)


def _headers() -> Iterator[tuple[str, Oddity]]:
    lines = [
        *(b"A: b\n", b"A: b\r", b"A: b\r\n c\r\n", b"A: b\r\n\tc\r\n", b" A: b\r\n", b"A\r\n"),
        b": b\r\n",
        *(b"A : b\r\n", b"A\t: b\r\n", b"A: \x00\r\n", b"A: b\rc\r\n", b"A: b\nc: d\r\n"),
        b"A: \x7f\r\n",
        *(b"A: \x01\r\n", b"A: \xe4\r\n", b"A:\r\n", b"A\x00: b\r\n", b"\xe4: b\r\n", b"A(: b\r\n"),
        *(b"A b: c\r\n", b"A: b\r\r\n", b"\r\nA: b\r\n", b"A_b: c\r\n", b"A: b\x0bc\r\n"),
        *(b"Connection: close\r\n", b"Connection: keep-alive, close\r\n"),
        b"Expect: 100-continue\r\n",
        b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n",
        b"Connection: Upgrade\r\nUpgrade: websocket\r\n",
        b"Connection: Upgrade\r\nUpgrade: foo\r\n",
        b"Connection: Upgrade\r\nUpgrade: TLS/1.0, h2c\r\n",
        b"Connection: Content-Length\r\n",
        b"Connection: Transfer-Encoding\r\n",
        b"Trailer: Content-Length\r\n",
        b"TE: trailers\r\n",
        b"Content-Type: a/b\r\nContent-Type: c/d\r\n",
        b"Authorization: Bearer a\r\nAuthorization: Bearer b\r\n",
        b"Idempotency-Key: a\r\nIdempotency-Key: b\r\n",
    ]  # fmt: skip
    for line in lines:
        yield f"header {line!r}", _header(line)


def _methods() -> Iterator[tuple[str, Oddity]]:
    def method(name: bytes) -> Oddity:
        def apply(request: Request) -> None:
            request.method = name

        return apply

    for name in (b"get", b"G ET", b"GET\x00", b"PRI", b"M-SEARCH", b""):
        yield f"method {name!r}", method(name)

    def bodiless(request: Request) -> None:
        request.method, request.framing, request.body = b"GET", [], b""

    yield "without a body", bodiless


def oddities() -> list[tuple[str, Oddity]]:
    """Return all oddities, in a fixed order."""
    kinds = (_lengths, _codings, _chunks, _hosts, _lines, _headers, _methods)
    return [oddity for kind in kinds for oddity in kind()]


def sample(number: int, chosen: list[tuple[str, Oddity]]) -> Sample:
    """Return a request with the oddities chosen, one to smuggle, and an ordinary one after it."""
    body = _smuggled(number)
    request = Request(number, framing=[b"Content-Length: %d\r\n" % len(body)], body=body)
    for _, oddity in chosen:
        oddity(request)
    after = b"GET /second%d HTTP/1.1\r\nHost: localhost\r\n\r\n" % number
    raw = request.raw() + after
    return Sample(number, tuple(name for name, _ in chosen), raw)


def corpus(seed: int, count: int) -> list[Sample]:
    """Return ordinary samples, one for each oddity, and pairs at random; `count` at least."""
    every = oddities()
    samples = [sample(0, [])] + [sample(number, [each]) for number, each in enumerate(every, 1)]
    random = Random(seed)
    while len(samples) < count:
        samples.append(sample(len(samples), random.sample(every, 2)))
    return samples
