"""Raw requests to the three services, made from a seed: ordinary ones, and ones with oddities.

A connection carries one to four requests. Requests to paths that do not exist carry a tag that the
problem document repeats, so that it is seen who was answered, how often and in which order.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from tests.fuzz.heads import Request, oddities

ODDITIES = oddities()

BOUNDARY = "b0undary"
IDS = ["01930000-0000-7000-8000-00000000000a", "none", "%00", "..%2f..", "a" * 65, "\xc3\xa9"]
JSON_BODIES = [
    *(b"{}", b"[]", b"null", b"{", b'"\\ud800"', b"[" * 3000, b'{"action": "retry"}', b"\xff\xfe"),
    json.dumps({"action": "cancel", "files": {"ids": ["none", "a" * 64]}}).encode(),
    json.dumps({"action": "retry", "files": {"label": ["a:b"]}, "limit": 2}).encode(),
    json.dumps({"url": "https://127.1/", "states": ["failed"]}).encode(),
    json.dumps({"name": "a.txt", "size": -1}).encode(),
    b'{"action": "cancel", "files": {"ids": ["' + b"x" * 5000 + b'"]}}',
    b'{"a": 1e999, "b": NaN, "c": ' + b"9" * 400 + b"}",
]
QUERIES = [
    *("", "?limit=0", "?limit=2&sort=-updated", "?cursor=AAAA", "?cursor=%00", "?label=a:b"),
    *("?status=failed&status=pending", "?status=x", "?name=%ff", "?created_since=x", "?&&=", "??"),
    *("?fields=status,progress", "?fields=nothing", "?wait=0.1", "?wait=-1", "?wait=NaN"),
    *("?label.a=b", "?label.=b", "?deduplicate=maybe", "?name=" + "n" * 2000, "?" + "q" * 4000),
]


@dataclass(frozen=True)
class Connection:
    """What a client sends on one connection, and where."""

    number: int
    service: str
    """`upload`, `status` or `processor`."""
    raw: bytes
    pieces: int
    """In how many pieces it is sent."""


def _tagged(random: Random, request: Request) -> None:
    request.target = b"/fuzz/%d-%d" % (request.number, random.getrandbits(30))
    request.method = random.choice([b"GET", b"POST", b"PUT", b"DELETE", b"OPTIONS", b"PATCH"])
    if random.random() < 0.5:
        _with_body(random, request, random.choice([b"", b"hello", b"x" * 3000]))


def _with_body(random: Random, request: Request, body: bytes, content_type: str = "") -> None:
    if content_type:
        request.headers.append(f"Content-Type: {content_type}\r\n".encode())
    if random.random() < 0.3:
        size = random.choice([1, 7, 1000, 100_000])
        pieces = [body[at : at + size] for at in range(0, len(body), size)]
        request.framing = [b"Transfer-Encoding: chunked\r\n"]
        request.body = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
        request.body += b"0\r\n\r\n"
    else:
        request.framing, request.body = [b"Content-Length: %d\r\n" % len(body)], body


def _upload(random: Random, request: Request) -> None:
    request.method, query = b"POST", random.choice(QUERIES)
    request.target = f"/api/files/upload{query}".encode()
    disposition = random.choice(
        [
            'form-data; name="file"; filename="a.txt"',
            'form-data; name="file"; filename="a"; filename="b"',
            'form-data; name="file"; name="x"; filename="a"',
            'form-data; name="label.a"',
            "form-data",
        ]
    )
    part = f"--{BOUNDARY}\r\nContent-Disposition: {disposition}\r\n\r\n\r\n--{BOUNDARY}--\r\n"
    kinds = [
        (f"multipart/form-data; boundary={BOUNDARY}", part.encode()),
        (f"multipart/form-data; boundary={BOUNDARY}; boundary=x", part.encode()),
        ("multipart/form-data", part.encode()),
        (f"multipart/form-data; boundary={BOUNDARY}", part[:-10].encode()),
        ("text/plain", b""),
        ("text/plain", b"some words" if random.random() < 0.1 else b""),
    ]
    content_type, body = random.choice(kinds)
    _with_body(random, request, body, content_type)
    if random.random() < 0.2:
        request.headers.append(
            random.choice([b"Idempotency-Key: \r\n", b"Content-Encoding: br\r\n"])
        )


def _tus(random: Random, request: Request) -> None:
    request.method = random.choice([b"POST", b"PATCH", b"HEAD", b"DELETE", b"OPTIONS"])
    request.target = random.choice([b"/api/uploads", b"/api/uploads/none", b"/api/uploads/%00"])
    request.headers.append(
        random.choice([b"Tus-Resumable: 1.0.0\r\n", b"Tus-Resumable: 0\r\n", b""])
    )
    request.headers.append(random.choice([b"Upload-Length: 0\r\n", b"Upload-Length: x\r\n", b""]))
    request.headers.append(
        random.choice([b"Upload-Metadata: a b,a c\r\n", b"Upload-Offset: 0\r\n"])
    )
    _with_body(random, request, b"hello", "application/offset+octet-stream")


def _json(targets: list[bytes]) -> Callable[[Random, Request], None]:
    def apply(random: Random, request: Request) -> None:
        request.method, request.target = b"POST", random.choice(targets)
        kind = random.choice(["application/json", "application/json", "text/plain", ""])
        _with_body(random, request, random.choice(JSON_BODIES), kind)
        if random.random() < 0.2:
            request.headers.append(b"Expect: 100-continue\r\n")

    return apply


def _read(targets: list[str]) -> Callable[[Random, Request], None]:
    def apply(random: Random, request: Request) -> None:
        request.method = random.choice([b"GET", b"GET", b"GET", b"HEAD"])
        target = random.choice(targets).replace("ID", random.choice(IDS)) + random.choice(QUERIES)
        request.target = target.encode("latin-1")
        if random.random() < 0.1:
            request.headers.append(b'If-None-Match: "x", *\r\nRange: bytes=5-1,-\r\n')

    return apply


def _websocket(random: Random, request: Request) -> None:
    request.method, request.target = b"GET", random.choice([b"/api/ws", b"/api/files", b"/"])
    request.headers = [
        b"Connection: Upgrade\r\nUpgrade: websocket\r\n",
        random.choice([b"Sec-WebSocket-Version: 13\r\n", b"Sec-WebSocket-Version: 8\r\n", b""]),
        random.choice(
            [b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", b"Sec-WebSocket-Key: x\r\n"]
        ),
    ]
    if random.random() < 0.5:
        masked = b"\x00\x00\x00\x00"
        frames = [b"\x81\x82" + masked + b"{}", b"\x89\x80" + masked, b"\xc1\x81" + masked + b"a"]
        frames += [
            b"\x82\x81" + masked + b"a",
            b"\x81\xff" + b"\x7f" * 12,
            b"\x00\x80" + masked,
            b"\xff",
        ]
        request.body = b"".join(random.choices(frames, k=random.randint(1, 5)))


READS = [
    *("/api/files", "/api/files/ID", "/api/files/ID/process/status", "/api/files/ID/events"),
    *("/api/files/ID/result", "/api/files/ID/source", "/api/files/ID/artifacts/text.txt"),
    *("/api/batches/ID", "/api/stats", "/api/admin/dead", "/api/admin/stuck", "/api/webhooks"),
    *("/api/session", "/", "/static/waybill.js", "/static/../x", "/docs", "/openapi.json"),
    *("/health/live", "/health/ready", "/metrics", "//", "/api/files/ID/shares"),
]
MAKERS: dict[str, list[Callable[[Random, Request], None]]] = {
    "upload": [
        *(
            _tagged,
            _upload,
            _tus,
            _websocket,
            _read(["/health/ready", "/metrics", "/openapi.json"]),
        ),
        _json([b"/api/files/upload/from-url", b"/api/files/upload/direct"]),
    ],
    "status": [
        *(_tagged, _websocket, _read(READS), _read(READS)),
        _json([b"/api/files/bulk", b"/api/webhooks", b"/api/tickets", b"/api/session"]),
        _json(
            [b"/api/files/none/cancel", b"/api/files/none/retry", b"/api/admin/dead/0-0/redrive"]
        ),
    ],
    "processor": [_tagged, _websocket, _read(["/health/live", "/health/ready", "/metrics"])],
}


def connections(seed: int, count: int) -> list[Connection]:
    """Return what `count` requests at least send, on as many connections as that takes."""
    random, requests = Random(seed), 0
    made: list[Connection] = []
    while requests < count:
        number, service = len(made), random.choice(["upload", "status", "status", "processor"])
        raw, several = b"", random.choice([1, 1, 1, 2, 4])
        for _ in range(several):
            request = Request(number)
            random.choice(MAKERS[service])(random, request)
            for _, oddity in random.sample(ODDITIES, random.choice([0, 0, 1, 1, 2])):
                oddity(request)
            raw += request.raw()
        if random.random() < 0.1:
            raw = _damaged(random, raw)
        made.append(Connection(number, service, raw, random.choice([1, 1, 1, 2, 5])))
        requests += several
    return made


def _damaged(random: Random, raw: bytes) -> bytes:
    """Bytes changed, dropped, doubled or cut off."""
    damaged = bytearray(raw)
    for _ in range(random.randint(1, 4)):
        at = random.randrange(len(damaged))
        match random.randrange(4):
            case 0:
                damaged[at] = random.randrange(256)
            case 1:
                del damaged[at : at + random.randint(1, 20)]
            case 2:
                damaged[at:at] = damaged[at : at + random.randint(1, 40)]
            case _:
                del damaged[at + 1 :]
        if not damaged:
            return b"\r"
    return bytes(damaged)
