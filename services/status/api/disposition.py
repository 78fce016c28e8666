"""The `Content-Disposition` of downloads (RFC 6266), safe to use as a file name on any system.

Users choose the names of their files, and a client may create a file with that name. The name must
therefore not leave the current folder, hide the file, or address a device.
"""

import re
import unicodedata
from urllib.parse import quote

MAX_BYTES = 240
"""Maximum bytes of a name. File systems allow 255, and clients append suffixes such as `.part` or `
(1)`."""

MAX_EXTENSION = 16
"""Characters of an extension that are kept when a name is cut."""

FALLBACK = "file"

_UNSAFE = re.compile(r'[\x00-\x1f\x7f-\x9f"\\/:*?<>|]+')
"""Control characters, quotes, separators, and characters that Windows forbids."""

_RESERVED = re.compile(
    r"(con|prn|aux|nul|conin\$|conout\$|com[0-9¹²³]|lpt[0-9¹²³])\s*(\.|$)", re.IGNORECASE
)
"""Names of Windows devices, with any extension."""

_INVISIBLE = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
"""Categories of characters that are invisible, or change how others are read."""

_SPELLED = str.maketrans(
    {
        "ß": "ss",
        "ẞ": "SS",
        "æ": "ae",
        "Æ": "AE",
        "œ": "oe",
        "Œ": "OE",
        "ø": "o",
        "Ø": "O",
        "đ": "d",
        "Đ": "D",
        "ł": "l",
        "Ł": "L",
        "þ": "th",
        "Þ": "Th",
        "ð": "d",
        "Ð": "D",
        "€": "EUR",
        "\u0131": "i",
        "\u2013": "-",
        "\u2014": "-",
        "\u2018": "'",
        "\u2019": "'",
    }
)
"""Letters without a decomposition into an ASCII letter and a mark."""

_TOKEN = "!#$&+-.^_`|~"  # noqa: S105 - characters of RFC 8187, beside letters and digits


def attachment(name: str) -> str:
    """Return the header that offers a download with a name.

    `filename*` contains the name itself, and `filename` an ASCII form for clients such as `curl
    -OJ` that read nothing else.
    """
    safe = safe_name(name)
    return f"attachment; filename=\"{ascii_name(safe)}\"; filename*=UTF-8''{quote(safe, _TOKEN)}"


def safe_name(name: str) -> str:
    """Return the last segment of a name, without anything unsafe in a file name."""
    last = re.split(r"[/\\]", name)[-1]
    visible = "".join(" " if unicodedata.category(c) == "Zs" else c for c in last if _is_visible(c))
    plain = _UNSAFE.sub("_", visible).strip(" ")
    plain = plain.rstrip(". ")  # Windows drops these.
    if plain.startswith((".", "-")):  # A hidden file, or a command-line option.
        plain = "_" + plain.lstrip(".-")
    if not plain.strip("_"):
        plain = FALLBACK
    if _RESERVED.match(plain):
        plain = "_" + plain
    return _cut(plain)


def ascii_name(safe: str) -> str:
    """Return the closest ASCII form of a name from `safe_name`."""
    decomposed = unicodedata.normalize("NFKD", safe.translate(_SPELLED))
    spelled = "".join(c for c in decomposed if not unicodedata.combining(c))
    # A percent sign would be decoded by some browsers.
    replaced = re.sub(r"[^\x20-\x7e]+|%", "_", spelled)
    stem, dot, extension = replaced.rpartition(".")
    if dot and not stem.strip("_ "):  # No character has an ASCII form.
        replaced = f"{FALLBACK}.{extension}"
    # Compatibility forms may have decomposed into unsafe characters.
    return safe_name(replaced)


def _is_visible(character: str) -> bool:
    return unicodedata.category(character) not in _INVISIBLE


def _cut(name: str) -> str:
    """Shorten a name to `MAX_BYTES` at a character boundary, and keep its extension."""
    if len(name.encode()) <= MAX_BYTES:
        return name
    stem, dot, extension = name.rpartition(".")
    ending = dot + extension if stem and len(extension) <= MAX_EXTENSION else ""
    room = MAX_BYTES - len(ending.encode())
    kept = name[: len(name) - len(ending)].encode()[:room].decode(errors="ignore")
    return kept.rstrip(". ") + ending
