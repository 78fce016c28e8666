"""Parse file names and content types from headers. A name is data, never a path."""

import re
import unicodedata
from urllib.parse import unquote_to_bytes

from services.upload.body.charsets import declared_charset
from shared.http.refusals import MalformedRequestError

MAX_NAME = 255
"""Characters of a file name that are kept, the limit of common file systems."""

UNNAMED = "unnamed"

_BIDI_CONTROLS = frozenset(
    "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
)
"""Characters that change the reading direction: they can make `txt.exe` look like `exe.txt`."""

_HIDDEN_CATEGORIES = frozenset({"Cc", "Cs", "Zl", "Zp"})

_LONGEST_EXTENSION = 16
"""Maximum characters of an extension that is preserved when a name is truncated."""

_PARAMETER = re.compile(r';\s*([^\s=;]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^;]*))')
_EXTENDED_VALUE = re.compile(r"(utf-8|iso-8859-1)'[^']*'(.*)", re.IGNORECASE)
_FORM_ESCAPES = {"%22": '"', "%0D": "\r", "%0A": "\n", "%0d": "\r", "%0a": "\n"}
_MEDIA_TYPE = re.compile(r"[a-z0-9][a-z0-9!#$&^_.+-]{0,63}/[a-z0-9][a-z0-9!#$&^_.+-]{0,126}")


def clean_name(given: str) -> str:
    """Remove invisible and misleading characters from a name and truncate it to `MAX_NAME`.

    A path such as `../../etc/passwd` is kept, because Waybill never opens a file by its name.
    """
    plain = given.isascii() and given.isprintable()  # the common case
    visible = (given if plain else "".join(filter(_is_visible, given))).strip()
    if len(visible) <= MAX_NAME:
        return visible or UNNAMED
    dot = visible.rfind(".")
    ending = visible[dot:] if 0 < len(visible) - dot <= _LONGEST_EXTENSION else ""
    return visible[: MAX_NAME - len(ending)] + ending


def _is_visible(character: str) -> bool:
    return (
        character not in _BIDI_CONTROLS
        and unicodedata.category(character) not in _HIDDEN_CATEGORIES
    )


def extension(name: str) -> str:
    """Return the lower-case extension of a name without its dot; "" if it has none."""
    last_segment = re.split(r"[/\\]", name)[-1]
    stem, dot, ending = last_segment.rpartition(".")
    return ending.lower() if dot and stem else ""


def parse_header(header: str) -> tuple[str, dict[str, str]]:
    """Parse a header such as Content-Disposition.

    Returns:
        The value in lower case, and the parameters with lower-case names.

    Raises:
        MalformedRequestError: A parameter occurs twice, which parsers interpret differently.
    """
    word, semicolon, rest = header.partition(";")
    parameters = {}
    for key, quoted, bare in _PARAMETER.findall(semicolon + rest):
        value = re.sub(r'\\(["\\])', r"\1", quoted) if "\\" in quoted else quoted
        name = key.lower()
        if name in parameters:
            raise MalformedRequestError(
                f"A header has the parameter {name[:80]!r} twice; send it once."
            )
        parameters[name] = value or bare.strip()
    return word.strip().lower(), parameters


def file_name(parameters: dict[str, str]) -> str | None:
    """Return the unsanitized file name of a Content-Disposition; None if there is none.

    `filename*` (RFC 5987) takes precedence over `filename`, as RFC 6266 requires. In `filename`,
    the three escapes of the browsers' form encoding are decoded.
    """
    extended = _EXTENDED_VALUE.fullmatch(parameters.get("filename*", ""))
    if extended:
        charset, encoded = extended.groups()
        return unquote_to_bytes(encoded).decode(charset, errors="replace")
    plain = parameters.get("filename")
    if plain is None or "%" not in plain:
        return plain
    for escape, meant in _FORM_ESCAPES.items():
        plain = plain.replace(escape, meant)
    return plain


def media_type(value: str | None) -> str | None:
    """Return the lower-case media type of a Content-Type; None if it is absent or invalid."""
    word = (value or "").partition(";")[0].strip().lower()
    return word if _MEDIA_TYPE.fullmatch(word) else None


def charset(value: str | None) -> str | None:
    """Return the `charset` of a Content-Type; None if it is absent or not a text encoding."""
    return declared_charset(parse_header(value)[1]) if value and ";" in value else None


def decode_header(raw: bytes) -> str:
    """Decode header bytes as UTF-8, which clients use today, or else as Latin-1."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("latin-1")
