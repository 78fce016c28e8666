"""Malicious uploads, as bytes on the wire."""

import io
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

PATH = "/api/files/upload"
BOUNDARY = b"frontier"

NAMES = [
    *("..", ".", "../../etc/passwd", "..\\..\\windows\\system.ini", "/etc/passwd", "//host/share"),
    *("C:\\autoexec.bat", "CON", "NUL.txt", "file:///etc/passwd", "~/.ssh/id_rsa", "a/../../b"),
    *("%2e%2e%2fetc%2fpasswd", "..%c0%af..%c0%afetc", "....//....//etc", "\x00", "a\x00.txt"),
    *("sources/../x", "staged/x", "outbox/x.json", "keys/x", ".htaccess", "-rf", "--help", "| id"),
    *("$(reboot)", "`reboot`", "a;reboot", "a\tb", "a\rb", "a\nb", "\x1b[31mred", "\x07bell"),
    *("\u202etxt.exe", "\u2066a\u2069", "\u200fabc", "\ufeffbom", "a\u2028b", "\ud7ffx", "\uffff"),
    *("e\u0301" * 100, "\U0001f469\u200d\U0001f680.png", "\u0000\u0001\u0002", "<script>alert(1)"),
    *('"><img src=x onerror=alert(1)>', "'; DROP TABLE files; --", '{"$ne": null}', "{{7*7}}"),
    *("${jndi:ldap://127.0.0.1/a}", "%s%n%x", "x" * 255, "x" * 256, "x" * 4000, "é" * 2000, " "),
    *("\u3000", "." * 300, "a" + "." * 254, "x." + "y" * 300, "\\", '"', "a\\", 'a"b', ";a=b", "="),
]

LYING_TYPES = [
    *(
        "image/png",
        "application/pdf",
        "text/html",
        "text/plain; charset=utf-7",
        "a/b",
        "/",
        "",
        "x",
    ),
    *("application/x-php", "image/svg+xml", "multipart/mixed; boundary=inner", "*/*", "x" * 4000),
    *("message/http", "application/json\x00", "text/html;charset=\xff", "application/x-elf"),
]


def bomb_of_zeros() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros", bytes(5_000_000))
    return out.getvalue()


def zip_with_paths() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name in ("../../escaped", "/absolute", "word/document.xml", "a" * 1000):
            archive.writestr(name, b"x")
    return out.getvalue()


LAUGHS = b'<?xml version="1.0"?><!DOCTYPE l [<!ENTITY a "ha">' + b"".join(
    b'<!ENTITY %c "%s">' % (98 + n, b"&%c;" % (97 + n) * 10) for n in range(9)
)
PDF = b"%PDF-1.7\n1 0 obj<</Type/Catalog/OpenAction<</S/JavaScript/JS(app.alert(1))>>>>endobj\n"

CONTENTS = {
    "zip bomb": bomb_of_zeros(),
    "zip with paths": zip_with_paths(),
    "gzip bomb": b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03" + zlib.compress(bytes(5_000_000)),
    "billion laughs": LAUGHS + b"]><l>&j;</l>",
    "external entity": b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]>',
    "pdf with script": PDF,
    "pdf bomb": PDF + b"<</Length 1/Filter[" + b"/FlateDecode" * 1000 + b"]>>stream\n",
    "pdf and zip": PDF + zip_with_paths(),
    "gif and script": b"GIF89a/*" + bytes(20) + b"*/=1;alert(1)",
    "png and html": b"\x89PNG\r\n\x1a\n<html><script>alert(1)</script>",
    "jpeg and php": b"\xff\xd8\xff\xe0<?php system($_GET[0]); ?>",
    "html": b"<!doctype html><script>alert(1)</script>",
    "svg": b'<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"/>',
    "elf behind text": b"text\n" + bytes(100) + b"\x7fELF",
    "half a byte order mark": b"\xff\xfe\x00",
    "lone surrogates": b"\xff\xfe\x00\xd8\x00\xd8",
    "deep json": b"[" * 100_000,
    "looks like a form": b"--frontier2\r\nContent-Disposition: form-data; name=file\r\n\r\n",
    "all bytes": bytes(range(256)) * 40,
    "only line ends": b"\r\n" * 10_000,
    "only dashes": b"\r\n--" * 10_000,
    "almost the boundary": b"\r\n--frontie" * 5_000,
}


@dataclass(frozen=True)
class Hostile:
    """One request."""

    name: str
    raw: bytes


def request(body: bytes, *headers: bytes, path: str = PATH, length: int | None = None) -> bytes:
    lines = [
        b"POST %s HTTP/1.1" % path.encode("latin-1", errors="replace"),
        b"Host: 127.0.0.1",
        b"Connection: close",
        b"Content-Length: %d" % (len(body) if length is None else length),
        *headers,
    ]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def form(*parts: bytes, end: bytes = b"--frontier--\r\n", length: int | None = None) -> bytes:
    body = b"".join(b"--frontier\r\n" + part + b"\r\n" for part in parts) + end
    return request(body, b"Content-Type: multipart/form-data; boundary=frontier", length=length)


def part(disposition: bytes, content: bytes = b"one", *headers: bytes) -> bytes:
    lines = [b"Content-Disposition: form-data; " + disposition, *headers]
    return b"\r\n".join(lines) + b"\r\n\r\n" + content


FILE = b'name="file"; filename="a.txt"'


def names() -> Iterator[Hostile]:
    for number, name in enumerate(NAMES):
        raw = name.encode("utf-8", errors="surrogatepass")
        encoded = b"".join(b"%%%02x" % byte for byte in raw)
        label = f"name {number}"
        yield Hostile(label, form(part(b'name="file"; filename="%s"' % raw)))
        yield Hostile(f"{label}, RFC 5987", form(part(b"name=file; filename*=UTF-8''" + encoded)))
        path = f"{PATH}?name={encoded.decode()}"
        yield Hostile(f"{label}, query", request(b"one", path=path))


def structures() -> Iterator[Hostile]:
    yield Hostile("a form of nothing", form())
    yield Hostile("without its end", form(part(FILE), end=b""))
    yield Hostile("end only", form(end=b"--frontier--"))
    yield Hostile("two dispositions", form(part(FILE, b"x", b"Content-Disposition: form-data")))
    yield Hostile("two names", form(part(b"name=file; name=label.a; filename=a")))
    yield Hostile("two filenames", form(part(b'name=file; filename=a; filename="../b"')))
    yield Hostile("header without colon", form(part(FILE, b"x", b"Evil")))
    yield Hostile("header of 9 kB", form(part(FILE, b"x", b"X: " + b"x" * 9000)))
    yield Hostile("500 headers", form(part(FILE, b"x", *[b"X-%d: x" % n for n in range(500)])))
    yield Hostile("1000 parts", form(*[part(FILE)] * 1000))
    yield Hostile("1000 empty parts", form(*[b"\r\n"] * 1000))
    yield Hostile("1000 fields", form(*[part(b"name=label.a%d" % n) for n in range(1000)]))
    yield Hostile("huge field", form(part(b"name=note", b"x" * 100_000), part(FILE)))
    yield Hostile("nested form", form(part(FILE, form(part(FILE)).replace(b"frontier", b"inner"))))
    yield Hostile(
        "mixed part", form(part(FILE, b"x", b"Content-Type: multipart/mixed; boundary=b"))
    )
    yield Hostile("base64 part", form(part(FILE, b"eA==", b"Content-Transfer-Encoding: base64")))
    yield Hostile("folded header", form(part(FILE + b"\r\n folded")))
    yield Hostile("bare line feeds", form(part(FILE)).replace(b"\r\n--", b"\n--"))
    yield Hostile("preamble", request(b"x\r\n--frontier\r\n", b"Content-Type: multipart/form-data"))
    yield Hostile("epilogue", form(part(FILE), end=b"--frontier--\r\n" + part(FILE) * 100))
    for index, boundary in enumerate(
        [b"", b'""', b"x" * 71, b"x" * 5000, b'"a b "', b"\xff", b"a\x00"]
    ):
        kind = b"Content-Type: multipart/form-data; boundary=" + boundary
        yield Hostile(f"boundary {index}", request(b"--\r\n\r\n", kind))
    for index, label in enumerate(
        [b"", b"$where", b"a.b.c", b"__proto__", b"x" * 300, b"\x00", b"a b"]
    ):
        yield Hostile(f"label {index}", form(part(b'name="label.%s"' % label), part(FILE)))
        yield Hostile(f"label value {index}", form(part(b"name=label.a", label), part(FILE)))


def lengths() -> Iterator[Hostile]:
    whole = form(part(FILE))
    head, _, body = whole.partition(b"\r\n\r\n")
    yield Hostile("longer than it is", form(part(FILE), length=10_000))
    yield Hostile("shorter than it is", form(part(FILE), length=50))
    yield Hostile("length of nothing", form(part(FILE), length=0))
    yield Hostile("length of a petabyte", form(part(FILE), length=10**15))
    for index, length in enumerate(
        [b"-1", b"+5", b"0x10", b"1e3", b"9" * 40, b"", b"5, 5", b" 5 5"]
    ):
        yield Hostile(f"length {index}", request(b"").replace(b": 0\r\n", b": %s\r\n" % length))
    twice = b"\r\nContent-Length: 3\r\nContent-Length: 300\r\n\r\n"
    yield Hostile("two lengths", request(b"").partition(b"\r\nContent-Length")[0] + twice + b"one")
    chunked = b"Transfer-Encoding: chunked"
    start = request(b"", b"%s").replace(b"Content-Length: 0\r\n", b"")
    for index, chunks in enumerate(
        [b"zz\r\n", b"3\r\none\r\n", b"ffffffffffffffff\r\none", b"-1\r\n", b"3;x=" + b"y" * 5000]
    ):
        yield Hostile(f"chunks {index}", start.replace(b"%s", chunked) + chunks + b"\r\n0\r\n\r\n")
    yield Hostile("length and chunks", request(b"0\r\n\r\nPOST /", chunked))
    yield Hostile("two codings", start.replace(b"%s", chunked + b", identity") + b"0\r\n\r\n")
    yield Hostile("chunked in disguise", start.replace(b"%s", b"Transfer-Encoding : chunked"))
    for index, coding in enumerate([b"gzip", b"br", b"identity, gzip", b"x" * 3000]):
        yield Hostile(f"coding {index}", request(b"one", b"Content-Encoding: " + coding))
    yield Hostile("cut within the head", head[:40])
    yield Hostile("cut within the body", head + b"\r\n\r\n" + body[:20])
    yield Hostile("no HTTP", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200))
    yield Hostile("a second request inside", form(part(FILE), length=len(body)) + whole)
    for index, key in enumerate([b"", b'"', b"x" * 5000, b"\xff", b'"a", "b"', b'"\x01"']):
        yield Hostile(f"key {index}", request(b"one", b"Idempotency-Key: " + key))


def contents() -> Iterator[Hostile]:
    for label, content in CONTENTS.items():
        yield Hostile(label, form(part(FILE, content)))
        yield Hostile(f"{label}, raw", request(content, b"Content-Type: application/octet-stream"))
    for index, kind in enumerate(LYING_TYPES):
        header = b"Content-Type: " + kind.encode("latin-1")
        yield Hostile(f"type {index}", form(part(FILE, b"\x7fELF" + bytes(99), header)))
        yield Hostile(f"type {index}, raw", request(b"%PDF-1.7 no", header))


CORPUS = [*names(), *structures(), *lengths(), *contents()]
