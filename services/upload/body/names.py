"""What clients say of a file in headers: its name and type, taken as data, never as a path."""

import re
import unicodedata
from urllib.parse import unquote_to_bytes

from services.upload.body.charsets import declared_charset
from shared.http.refusals import MalformedRequestError

MAX_NAME = 255
"""Characters of a file name that are kept: what the usual file systems can hold."""

UNNAMED = "unnamed"

_BIDI_CONTROLS = frozenset(
    "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
)
"""They make a name read other than it is written: `txt.exe` can pass for `exe.txt`."""

_HIDDEN_CATEGORIES = frozenset({"Cc", "Cs", "Zl", "Zp"})

_LONGEST_EXTENSION = 16
"""Characters of an ending that survive when a name is cut; what is longer is no extension."""

_PARAMETER = re.compile(r';\s*([^\s=;]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^;]*))')
_EXTENDED_VALUE = re.compile(r"(utf-8|iso-8859-1)'[^']*'(.*)", re.IGNORECASE)
_FORM_ESCAPES = {"%22": '"', "%0D": "\r", "%0A": "\n", "%0d": "\r", "%0a": "\n"}
_MEDIA_TYPE = re.compile(r"[a-z0-9][a-z0-9!#$&^_.+-]{0,63}/[a-z0-9][a-z0-9!#$&^_.+-]{0,126}")


def clean_name(given: str) -> str:
    """`given` as it may be shown: whole, except for what cannot be seen or misleads the eye.

    A path stays readable as what it is, `../../etc/passwd`; nobody ever opens it.
    """
    plain = given.isascii() and given.isprintable()  # as most are
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
    """The lower-case ending of a name without its dot, or "" if it has none."""
    last_segment = re.split(r"[/\\]", name)[-1]
    stem, dot, ending = last_segment.rpartition(".")
    return ending.lower() if dot and stem else ""


def parse_header(header: str) -> tuple[str, dict[str, str]]:
    """A header such as Content-Disposition: its first word and its parameters, lower-case names.

    Raises:
        MalformedRequestError: a parameter is there twice, so that two readers would differ.
    """
    word, semicolon, rest = header.partition(";")
    parameters = {}
    for key, quoted, bare in _PARAMETER.findall(semicolon + rest):
        value = re.sub(r'\\(["\\])', r"\1", quoted) if "\\" in quoted else quoted
        name = key.lower()
        if name in parameters:
            raise MalformedRequestError(f"A header has the parameter {name[:80]!r} twice.")
        parameters[name] = value or bare.strip()
    return word.strip().lower(), parameters


def file_name(parameters: dict[str, str]) -> str | None:
    """The file name among a Content-Disposition's parameters, uncleaned; None if there is none.

    `filename*` (RFC 5987) goes before `filename`, as RFC 6266 asks. In a plain one the three
    escapes are undone that the form encoding of browsers applies.
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
    """The bare, lower-case media type in a Content-Type header; None if there is no usable one."""
    word = (value or "").partition(";")[0].strip().lower()
    return word if _MEDIA_TYPE.fullmatch(word) else None


def charset(value: str | None) -> str | None:
    """The `charset` in a Content-Type header; None if there is no usable one."""
    return declared_charset(parse_header(value)[1]) if value and ";" in value else None


def decode_header(raw: bytes) -> str:
    """Header bytes as text: UTF-8 as clients send it today, else Latin-1 as HTTP once said."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("latin-1")
