"""Decode plain text from bytes in any encoding."""

import codecs
import contextlib
import re

from services.processor.steps.document import Context, Document
from services.processor.steps.media_types import HTML, XHTML

MAX_TEXT = 16 << 20
"""Bytes of a textual file that are read. kreuzberg needs up to fifty times a web page's size in
memory, and logs and dumps may be far larger than anyone reads."""

_MARKS = (
    # The byte order mark of UTF-16 is a prefix of UTF-32's, so the longer ones come first.
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
"""Text encodings only: Python also has codecs that unpack archives."""

_DECLARED_WITHIN = 1024
"""Bytes at the start of a page in which HTML requires the encoding to be declared."""


def read_text(document: Document, context: Context) -> Document:
    """Use the file's content as its text."""
    context.progress(0, 1, phase="extracting")
    document.text = unify_lines(read_decoded(document))
    return document


def read_decoded(document: Document) -> str:
    """Decode a textual file; record its encoding and whether it was truncated."""
    with document.path.open("rb") as file:
        data = file.read(MAX_TEXT)
    is_whole = len(data) == document.size
    text, encoding = decode(data, is_whole=is_whole, declared=_declared_encoding(document, data))
    document.statistics["encoding"] = encoding
    if not is_whole:
        document.statistics["text_truncated"] = True
    return text


def decode(data: bytes, *, is_whole: bool = True, declared: str | None = None) -> tuple[str, str]:
    """Return the text in `data` and the name of its encoding; always succeeds.

    The order is: byte order mark, valid UTF-8, the encoding that the text declares, and finally
    Windows-1252 or Latin-1, the most common of the rest.

    Args:
        is_whole: True if the data ends with the text, and not possibly inside a character.
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
    """Return the text with all line ends converted to line feeds."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _declared_encoding(document: Document, data: bytes) -> str | None:
    if document.content_type not in (HTML, XHTML):
        return None
    match = _DECLARED_IN_HTML.search(data[:_DECLARED_WITHIN])
    return match[1].decode("ascii").lower() if match else None
