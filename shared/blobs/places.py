"""Where what belongs to a file stands in the blob store.

Keys are made of ids that we hand out, never of names that users send.
"""

SOURCES = "sources/"
"""Below this stand uploaded files, side by side: a folder of its own costs as much as a file."""


def source_key(file_id: str) -> str:
    """Where an uploaded file is stored, unless the store was let choose another place."""
    return SOURCES + file_id


def file_id_of(key: str) -> str:
    """The uploaded file that is stored under a key."""
    return key.rpartition("/")[2]


def results_prefix(file_id: str) -> str:
    """Below this stands all that the work on a file has stored."""
    return f"files/{file_id}"


def attempt_prefix(file_id: str, run: int, attempt: int) -> str:
    """Where one attempt stores its artifacts, so that two attempts never mix."""
    return f"{results_prefix(file_id)}/{run}.{attempt}"
