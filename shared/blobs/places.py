"""Keys of a file's blobs.

Keys are built from ids that Waybill generates, never from names that users send.
"""

SOURCES = "sources/"
"""Prefix of uploaded files. They share one folder, because a folder costs as much as a file."""


def source_key(file_id: str) -> str:
    """Return the key of an uploaded file, unless the store chooses another one."""
    return SOURCES + file_id


def file_id_of(key: str) -> str:
    """Return the id of the uploaded file that is stored under a key."""
    return key.rpartition("/")[2]


def results_prefix(file_id: str) -> str:
    """Return the key prefix of all processing results of a file."""
    return f"files/{file_id}"


def attempt_prefix(file_id: str, run: int, attempt: int) -> str:
    """Return the key prefix of one attempt's artifacts, so that attempts never mix."""
    return f"{results_prefix(file_id)}/{run}.{attempt}"
