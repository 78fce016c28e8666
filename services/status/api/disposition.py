"""The `Content-Disposition` of downloads (RFC 6266), safe to use as a file name on any system.

Users choose the names of their files. A client may create a file by the name that it is sent, so
the name must not leave the current folder, hide the file, or address a device.
"""

import re
import unicodedata
from urllib.parse import quote

MAX_BYTES = 240
"""Bytes of a name: file systems hold 255, and clients append endings such as `.part` or ` (1)`."""

MAX_EXTENSION = 16
"""Characters of an extension that are kept when a name is cut."""

FALLBACK = "file"

_UNSAFE = re.compile(r'[\x00-\x1f\x7f-\x9f"\\/:*?<>|]+')
"""Control characters, quotes, separators, and what Windows forbids."""

_RESERVED = re.compile(
    r"(con|prn|aux|nul|conin\$|conout\$|com[0-9¹²³]|lpt[0-9¹²³])\s*(\.|$)", re.IGNORECASE
)
"""Names of Windows devices, with any extension."""

_INVISIBLE = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
"""Categories of characters that cannot be seen, or change how the others are read."""

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
"""Letters that have no decomposition into an ASCII letter and a mark."""

_TOKEN = "!#$&+-.^_`|~"  # noqa: S105 - characters of RFC 8187, beside letters and digits


def attachment(name: str) -> str:
    """Return the header that offers a download under a name.

    `filename*` has the name itself, `filename` an ASCII form of it for clients such as
    `curl -OJ` that read nothing else.
    """
    safe = safe_name(name)
    return f"attachment; filename=\"{ascii_name(safe)}\"; filename*=UTF-8''{quote(safe, _TOKEN)}"


def safe_name(name: str) -> str:
    """Return the last segment of a name without what is unsafe in a file name."""
    last = re.split(r"[/\\]", name)[-1]
    visible = "".join(" " if unicodedata.category(c) == "Zs" else c for c in last if _is_visible(c))
    plain = _UNSAFE.sub("_", visible).strip(" ")
    plain = plain.rstrip(". ")  # Windows drops these.
    if plain.startswith((".", "-")):  # A hidden file, or an option of a command.
        plain = "_" + plain.lstrip(".-")
    if not plain.strip("_"):
        plain = FALLBACK
    if _RESERVED.match(plain):
        plain = "_" + plain
    return _cut(plain)


def ascii_name(safe: str) -> str:
    """Return the nearest ASCII form of a name that `safe_name` gave."""
    decomposed = unicodedata.normalize("NFKD", safe.translate(_SPELLED))
    spelled = "".join(c for c in decomposed if not unicodedata.combining(c))
    # A percent sign would be decoded by some browsers.
    replaced = re.sub(r"[^\x20-\x7e]+|%", "_", spelled)
    stem, dot, extension = replaced.rpartition(".")
    if dot and not stem.strip("_ "):  # No letter of it can be spelled.
        replaced = f"{FALLBACK}.{extension}"
    # Compatibility forms of unsafe characters have become these.
    return safe_name(replaced)


def _is_visible(character: str) -> bool:
    return unicodedata.category(character) not in _INVISIBLE


def _cut(name: str) -> str:
    """Shorten a name to `MAX_BYTES`, between two characters, with its extension."""
    if len(name.encode()) <= MAX_BYTES:
        return name
    stem, dot, extension = name.rpartition(".")
    ending = dot + extension if stem and len(extension) <= MAX_EXTENSION else ""
    room = MAX_BYTES - len(ending.encode())
    kept = name[: len(name) - len(ending)].encode()[:room].decode(errors="ignore")
    return kept.rstrip(". ") + ending
