"""Search by a part of a name: in any case of letters, composed or decomposed, by an index.

MongoDB indexes the beginnings of strings, not their parts. So each document has, beside its folded
name, that name's text from every `STRIDE`th character on, cut to `KEY` characters. A part that
stands anywhere in a name begins at most `STRIDE` - 1 characters before one of these keys, so the
keys that begin with the part, less none to `STRIDE` - 1 of its first characters, find it. What they
find is compared with the folded name.
"""

import re
import unicodedata
from collections.abc import Iterator
from typing import Any

STRIDE = 2
"""Characters from one key to the next: half the keys of a name, and so half of what they cost, and
a part of two characters is still found."""

KEY = 8
"""Characters of a key: with fewer, one key is in too many names; with more, the index grows."""

MAX_KEYS = 384
"""Keys of one name. It has 255 characters, and folding makes up to three of one."""

NO_KEYS = [""]
"""The keys of a file without a name. A query for missing keys would also scan the index entries of
empty lists, and fetch each of these documents every time."""

FOLDED, KEYS = "name_folded", "name_keys"
"""The fields of a document. One without keys is not indexed yet."""

KEPT = {FOLDED: f"${FOLDED}", KEYS: f"${KEYS}"}
"""The same fields as they are in the document, for an update that leaves them."""

LAST = "\U0010ffff" * KEY
"""Behind what begins with a text and is no longer than a key."""


def folded(name: str) -> str:
    """Return a name as it is compared (Unicode, D145: canonical caseless matching), composed."""
    if name.isascii():
        return name.lower()
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", name).casefold())


def name_fields(name: str | None) -> dict[str, Any]:
    """Return what a document has for the search by its name; a file without one has no keys."""
    if name is None:
        return {KEYS: NO_KEYS}
    text = folded(name)
    starts = range(0, min(len(text), MAX_KEYS * STRIDE), STRIDE)
    return {FOLDED: text, KEYS: list(dict.fromkeys(text[start : start + KEY] for start in starts))}


def windows(part: str) -> Iterator[str]:
    """Yield the pieces of a part by which its files may be looked for, the likely rarest first.

    Many names share their beginning, so the end is more selective. A part that is too short for the
    index yields nothing.
    """
    text = folded(part)
    longest = KEY + STRIDE - 1
    if len(text) < STRIDE:
        return
    yield text[-longest:]
    if len(text) > longest:
        yield text[:longest]
    if len(text) > 2 * longest:
        middle = (len(text) - longest) // 2
        yield text[middle : middle + longest]


def by_keys(window: str) -> dict[str, Any]:
    """Return the condition that finds the files whose names may hold a window, by the index."""
    beginnings = (window[skipped : skipped + KEY] for skipped in range(STRIDE))
    ranges = [
        {KEYS: {"$elemMatch": {"$gte": beginning, "$lte": beginning + LAST}}}
        for beginning in beginnings
    ]
    return {"$or": [*ranges, {KEYS: None}]}


def named(part: str) -> dict[str, Any]:
    """Return the condition that a name holds a part; of documents without keys as well."""
    forms = {unicodedata.normalize(form, part) for form in ("NFC", "NFD")}
    spelled = "|".join(map(re.escape, sorted(forms)))
    return {
        "$or": [
            {FOLDED: {"$regex": re.escape(folded(part))}},
            {KEYS: None, "name": {"$regex": spelled, "$options": "i"}},
        ]
    }
