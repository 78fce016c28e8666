"""Plain text: from bytes in whatever encoding to a string."""

import codecs
import contextlib
import re

from services.processor.steps.document import Context, Document
from services.processor.steps.media_types import HTML, XHTML

MAX_TEXT = 16 << 20
"""Bytes of a textual file that are read. kreuzberg takes up to fifty times its size in memory to
read a web page, and nobody reads more; logs and dumps may be far larger."""

_MARKS = (
    # The mark of UTF-16 is the beginning of that of UTF-32, so the longer ones come first.
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)

_DECLARED_IN_HTML = re.compile(
    rb"""<meta[^>]{0,200}?charset\s*=\s*["']?
    (iso-8859-\d+|windows-125\d|koi8-[ru]|shift_jis|euc-(?:jp|kr)|gb(?:k|2312|18030)|big5)\b""",
    re.IGNORECASE | re.VERBOSE,
)
"""Only encodings of text: Python has others, which unpack archives."""

_DECLARED_WITHIN = 1024
"""Bytes of a page in which HTML wants its encoding declared."""


def read_text(document: Document, context: Context) -> Document:
    """Take the file itself as the text."""
    context.progress(0, 1, phase="extracting")
    document.text = unify_lines(read_decoded(document))
    return document


def read_decoded(document: Document) -> str:
    """The text of a textual file; notes its encoding and whether only the beginning was read."""
    with document.path.open("rb") as file:
        data = file.read(MAX_TEXT)
    is_whole = len(data) == document.size
    text, encoding = decode(data, is_whole=is_whole, declared=_declared_encoding(document, data))
    document.statistics["encoding"] = encoding
    if not is_whole:
        document.statistics["text_truncated"] = True
    return text


def decode(data: bytes, *, is_whole: bool = True, declared: str | None = None) -> tuple[str, str]:
    """The text in `data` and the name of its encoding; always finds one.

    In this order: what a byte order mark says, UTF-8 if it is that without fault, what the text
    itself declares, and at last Windows-1252 or Latin-1, in which most of the rest is written.

    Args:
        is_whole: whether the data ends where the text does, not in the middle of a character.
    """
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            decoder = codecs.getincrementaldecoder(encoding)(errors="replace")
            return decoder.decode(data, is_whole), encoding.removesuffix("-sig")
    for encoding in filter(None, ("utf-8", declared, "cp1252")):
        with contextlib.suppress(UnicodeError):
            return codecs.getincrementaldecoder(encoding)().decode(data, is_whole), encoding
    return data.decode("latin-1"), "latin-1"


def unify_lines(text: str) -> str:
    """The text with every line ended by a line feed alone."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _declared_encoding(document: Document, data: bytes) -> str | None:
    if document.content_type not in (HTML, XHTML):
        return None
    match = _DECLARED_IN_HTML.search(data[:_DECLARED_WITHIN])
    return match[1].decode("ascii").lower() if match else None
