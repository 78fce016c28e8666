"""Reading the filters that several endpoints share."""

from shared.errors import BadParameterError

MAX_IDS = 1000
"""Ids in one subscription: what fits into a URL and into one read of MongoDB."""


def parse_label(label: str | None) -> str | None:
    """Check a `key:value` filter.

    Raises:
        BadParameterError: there is no colon in it.
    """
    if label is not None and ":" not in label:
        raise BadParameterError(f"label={label!r}: write it as key:value.")
    return label


def parse_ids(ids: str | None) -> list[str] | None:
    """The ids of a comma-separated list.

    Raises:
        BadParameterError: there are more than one subscription may have.
    """
    if ids is None:
        return None
    listed = [each for each in ids.split(",") if each]
    if len(listed) > MAX_IDS:
        raise BadParameterError(f"ids: {len(listed)} are too many; subscribe to at most {MAX_IDS}.")
    return listed
