"""The character encoding of a text, as far as its client and its content say.

In this order: a byte order mark; the `charset` that the client declared, if the beginning of the
text can be read so; UTF-8, if the content is that without fault. Where none of it holds, the
encoding is unknown, and nobody is told a wrong one.
"""

import codecs
import encodings
import pkgutil
import re
from encodings.aliases import aliases

from shared.blobs.files import Piece

_MARKS = (
    # The mark of UTF-16 is the beginning of that of UTF-32, so the longer ones come first.
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)

_CHARSET = re.compile(r"(?=.{1,40}\Z)[a-z0-9]+(?:[_.:+-][a-z0-9]+)*")
"""Names of encodings, as IANA lists them: safe in a header."""

_KNOWN = frozenset(aliases) | {module.name for module in pkgutil.iter_modules(encodings.__path__)}
"""Names that Python knows. It remembers for ever each other one that it is asked for, and strangers
have any number of them."""

_OURS_ALONE = frozenset({"idna", "punycode", "raw_unicode_escape", "unicode_escape", "undefined"})
"""Encodings of Python's that no text on the web has."""


def declared_charset(parameters: dict[str, str]) -> str | None:
    """Return the `charset` of a Content-Type's parameters; None if it is no encoding of text."""
    name = parameters.get("charset", "").lower()
    known = encodings.normalize_encoding(name) if _CHARSET.fullmatch(name) else ""
    if known not in _KNOWN or known in _OURS_ALONE:
        return None
    return name if _reads(b"", name) else None


def has_charset(content_type: str) -> bool:
    """Return whether a `charset` may stand behind a media type: of JSON, for one, there is none."""
    return content_type.startswith("text/") or content_type.endswith(("/xml", "+xml"))


class CharsetProbe:
    """Looks at a text as it passes by, to name its encoding at the end."""

    def __init__(self, head: bytes, *, content_type: str, declared: str | None) -> None:
        """Args:
        head: the first bytes of the content, which `update` is given as well.
        declared: what `declared_charset` returned.
        """
        self._head = head
        self._charset = next((name for mark, name in _MARKS if head.startswith(mark)), None)
        if self._charset is None and declared is not None and not _is_utf8(declared):
            self._charset = declared if _reads(head, declared) else None
        if not has_charset(content_type):
            self._charset = None
        self._may_be_utf8 = has_charset(content_type) and self._charset is None
        self._decoder = codecs.getincrementaldecoder("utf-8")()

    def update(self, piece: Piece) -> None:
        """Look at the next piece."""
        self._look(piece, final=False)

    def _look(self, piece: Piece, *, final: bool) -> None:
        if self._may_be_utf8:
            try:
                self._decoder.decode(piece, final)
            except UnicodeDecodeError:
                self._may_be_utf8 = False

    def charset(self) -> str | None:
        """Return the encoding of the text, all of which was looked at; None if it is unknown."""
        self._look(b"", final=True)
        return "utf-8" if self._may_be_utf8 else self._charset

    def charset_by_head(self, *, is_whole: bool) -> str | None:
        """Return the encoding as far as the beginning proves it, where nobody reads the rest.

        ASCII alone proves nothing of what follows it.
        """
        if is_whole:
            self.update(self._head)
            return self.charset()
        is_proven = not self._head.isascii() and _reads(self._head, "utf-8")
        return "utf-8" if self._may_be_utf8 and is_proven else self._charset


def _codec(encoding: str) -> codecs.CodecInfo:
    """Return the codec of a known encoding, asked for by the one spelling that Python remembers."""
    return codecs.lookup(encodings.normalize_encoding(encoding))


def _is_utf8(encoding: str) -> bool:
    """Return whether it is UTF-8 or a part of it, for which the content itself is asked."""
    return _codec(encoding).name in ("utf-8", "ascii")


def _reads(data: bytes, encoding: str) -> bool:
    """Return whether data, perhaps cut within a character, can be read in an encoding of text."""
    try:
        codec = _codec(encoding)
        if not codec._is_text_encoding or codec.incrementaldecoder is None:  # noqa: SLF001 - as `bytes.decode` asks
            return False
        codec.incrementaldecoder().decode(data)
    except (LookupError, UnicodeError, ValueError):
        return False
    return True
