"""Search by a part of a name: by an index, in upper or lower case, composed or decomposed.

MongoDB indexes the beginnings of strings, not their parts. Each document therefore stores, beside
its folded name, the substrings that start at every `STRIDE`th character, cut to `KEY` characters.
Any part of a name begins at most `STRIDE` - 1 characters before the start of a key. So the search
looks for keys that begin with the part, or with the part without up to `STRIDE` - 1 of its first
characters. The results are then compared with the folded name.
"""

import re
import unicodedata
from collections.abc import Iterator
from typing import Any

STRIDE = 2
"""Characters from one key to the next. With 2, a name has half as many keys at half the cost, and
parts of two characters are still found."""

KEY = 8
"""Characters of a key. With fewer, a key occurs in too many names; with more, the index grows."""

MAX_KEYS = 384
"""Maximum keys of a name. A name has 255 characters, and folding expands one into up to three."""

NO_KEYS = [""]
"""The keys of a file without a name. A query for missing keys would also scan the index entries of
empty lists, and fetch each of these documents every time."""

FOLDED, KEYS = "name_folded", "name_keys"
"""Fields of a document. A document without keys is not indexed yet."""

KEPT = {FOLDED: f"${FOLDED}", KEYS: f"${KEYS}"}
"""The same fields with their stored values, for an update that preserves them."""

LAST = "\U0010ffff" * KEY
"""Sorts after every key that begins with the same text."""


def folded(name: str) -> str:
    """Return the form of a name used for comparison, composed.

    Canonical caseless matching (Unicode, D145).
    """
    if name.isascii():
        return name.lower()
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", name).casefold())


def name_fields(name: str | None) -> dict[str, Any]:
    """Return the fields that make a document searchable by name.

    A file without a name has no keys.
    """
    if name is None:
        return {KEYS: NO_KEYS}
    text = folded(name)
    starts = range(0, min(len(text), MAX_KEYS * STRIDE), STRIDE)
    return {FOLDED: text, KEYS: list(dict.fromkeys(text[start : start + KEY] for start in starts))}


def windows(part: str) -> Iterator[str]:
    """Yield substrings by which to search for a part, the one that is probably rarest first.

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
    """Return the index condition that finds all files whose names may contain a window."""
    beginnings = (window[skipped : skipped + KEY] for skipped in range(STRIDE))
    ranges = [
        {KEYS: {"$elemMatch": {"$gte": beginning, "$lte": beginning + LAST}}}
        for beginning in beginnings
    ]
    return {"$or": [*ranges, {KEYS: None}]}


def named(part: str) -> dict[str, Any]:
    """Return the condition that a name contains a part, also for documents without keys."""
    forms = {unicodedata.normalize(form, part) for form in ("NFC", "NFD")}
    spelled = "|".join(map(re.escape, sorted(forms)))
    return {
        "$or": [
            {FOLDED: {"$regex": re.escape(folded(part))}},
            {KEYS: None, "name": {"$regex": spelled, "$options": "i"}},
        ]
    }
