"""The parts of a form do not depend on how its bytes are chunked."""

import gc
import weakref
from contextlib import suppress
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.upload.body import splitting
from services.upload.body.multipart import Parts
from services.upload.body.splitting import MAX_PARTS, ReadBody, Splitter, Whole
from shared.errors import BrokenMultipartError

BOUNDARY = "frontier"

PART = b"--frontier\r\nContent-Disposition: form-data; name=a\r\n\r\none"

Contents = list[tuple[dict[str, str], bytes]]

contents = st.one_of(
    st.binary(max_size=200),
    # Content that looks like the beginning of a boundary.
    st.lists(
        st.sampled_from([b"\r", b"\n", b"-", b"--", b"\r\n--front", b"frontier", b"x", b"\r\n"]),
        max_size=12,
    ).map(b"".join),
).filter(lambda content: b"\r\n--frontier" not in b"\r\n" + content)


def encoded(*parts: bytes, end: str = "--") -> bytes:
    body = b"".join(
        b"--%s\r\nContent-Disposition: form-data; name=p%d\r\nX-Kept: caf\xc3\xa9\r\n\r\n%s\r\n"
        % (BOUNDARY.encode(), number, content)
        for number, content in enumerate(parts)
    )
    return body + f"--{BOUNDARY}{end}\r\n".encode()


def arriving(body: bytes, cuts: list[int], kind: type[Whole] = bytes) -> ReadBody:
    edges = [0, *sorted(cut for cut in cuts if 0 < cut < len(body)), len(body)]
    pieces = iter([kind(body[start:end]) for start, end in pairwise(edges) if start != end])

    async def read() -> Whole:
        return next(pieces, b"")

    return read


async def read(body: bytes, cuts: list[int] | None = None, kind: type[Whole] = bytes) -> Contents:
    parts: Contents = []
    opened = Parts(arriving(body, cuts or [], kind), BOUNDARY)
    while (part := await opened.next()) is not None:
        content = b""
        while piece := await part.read():
            content += piece
        parts.append((part.headers, content))
    return parts


@given(st.lists(contents, min_size=1, max_size=4), st.lists(st.integers(0, 1500), max_size=40))
async def test_any_chunking_gives_the_same_parts(parts: list[bytes], cuts: list[int]) -> None:
    assert await read(encoded(*parts), cuts) == [
        ({"content-disposition": f"form-data; name=p{number}", "x-kept": "café"}, content)
        for number, content in enumerate(parts)
    ]


async def test_even_byte_by_byte() -> None:
    body = encoded(b"\r\n--frontie\r\n--", b"", b"--frontier")

    assert await read(body, list(range(len(body)))) == await read(body)


async def test_wherever_it_is_cut_in_two_as_views_of_what_came(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(splitting, "MAX_COPIED", 0)
    contents = [b"\r\n--frontie\r\n--\r", b"", b"x\r\n--frontier2\r", b"--frontier"]
    body = encoded(*contents)

    for cut in range(len(body)):
        parts = await read(body, [cut], bytearray)
        assert [content for _, content in parts] == contents


@pytest.mark.parametrize("body", [encoded(b"one"), PART], ids=["complete", "cut short"])
def test_what_came_is_let_go_without_the_collector(body: bytes) -> None:
    gc.disable()
    try:
        splitter = Splitter(BOUNDARY)
        list(splitter.feed(body))
        gone = weakref.ref(splitter)
        del splitter
        assert gone() is None
    finally:
        gc.enable()


async def test_large_content_is_not_copied() -> None:
    opened = Parts(arriving(encoded(bytes(1 << 20)), [1 << 19]), BOUNDARY)
    part = await opened.next()
    assert part is not None

    assert isinstance(await part.read(), memoryview)


@given(st.binary(max_size=400), st.lists(st.integers(0, 400), max_size=10))
async def test_no_body_breaks_more_than_itself(body: bytes, cuts: list[int]) -> None:
    with suppress(BrokenMultipartError):
        await read(body, cuts)


@given(st.lists(contents, min_size=1, max_size=3), st.data())
async def test_a_body_that_is_cut_short_is_noticed(parts: list[bytes], data: st.DataObject) -> None:
    body = encoded(*parts).removesuffix(b"--\r\n")
    cut = data.draw(st.integers(0, len(body)))

    with pytest.raises(BrokenMultipartError, match="cut short"):
        await read(body[:cut])


async def test_what_is_not_read_of_a_part_is_skipped() -> None:
    body = encoded(b"long" * 1000, b"next")
    names = []
    parts = Parts(arriving(body, list(range(0, len(body), 50))), BOUNDARY)
    while (part := await parts.next()) is not None:
        names.append(part.headers["content-disposition"])
        await part.read()

    assert names == ["form-data; name=p0", "form-data; name=p1"]


async def test_what_follows_the_closing_boundary_is_ignored() -> None:
    assert len(await read(encoded(b"one") + b"epilogue")) == 1


async def test_headers_that_are_no_utf_8_are_read_as_latin_1() -> None:
    body = encoded(b"one").replace(b"caf\xc3\xa9", b"caf\xe9")

    ((headers, _),) = await read(body)
    assert headers["x-kept"] == "café"


async def test_parts_are_bounded_in_number() -> None:
    assert len(await read(encoded(*[b""] * MAX_PARTS))) == MAX_PARTS
    with pytest.raises(BrokenMultipartError, match="fewer files"):
        await read(encoded(*[b""] * (MAX_PARTS + 1)))


@pytest.mark.parametrize(
    "body",
    [
        b"preamble\r\n" + PART + b"\r\n--frontier--\r\n",
        PART.replace(b"\r\n", b"\n") + b"\n--frontier--\n",
        PART.replace(b"\r\n\r\n", b"\r\n folded\r\n\r\n") + b"\r\n--frontier--\r\n",
        PART.replace(b"name=a", b"name=a\nX: y") + b"\r\n--frontier--\r\n",
        PART.replace(b"name=a", b"name=a\x00b") + b"\r\n--frontier--\r\n",
        PART.replace(b"Content-", b"Content-Disposition: x\r\nContent-") + b"\r\n--frontier--",
        PART.replace(b"Content-Disposition", b"Content Disposition") + b"\r\n--frontier--",
        PART.replace(b"Content-Disposition:", b"Content-Disposition :") + b"\r\n--frontier--",
        PART.replace(b"--frontier\r\n", b"--frontier x\r\n") + b"\r\n--frontier--",
    ],
    ids=[
        "preamble",
        "bare line feeds",
        "folded header",
        "line feed in a header",
        "NUL in a header",
        "a header twice",
        "blank in a header's name",
        "blank before the colon",
        "more after the boundary",
    ],
)
async def test_what_two_readers_may_read_in_two_ways_is_refused(body: bytes) -> None:
    with pytest.raises(BrokenMultipartError, match="cannot be read"):
        await read(body)


async def test_a_longer_boundary_in_the_content_is_content() -> None:
    body = PART + b"\r\n--frontier2\r\n--frontierland--\r\n--frontier \t\r\n\r\ntwo"

    parts = await read(body + b"\r\n--frontier--")

    assert [content for _, content in parts] == [
        b"one\r\n--frontier2\r\n--frontierland--",
        b"two",
    ]
