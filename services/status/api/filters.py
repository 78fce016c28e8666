"""Parses filters that several endpoints share."""

from shared.errors import BadParameterError

MAX_IDS = 1000
"""Maximum ids in one subscription: limited by the length of a URL and one read from MongoDB."""


def parse_label(label: str | None) -> str | None:
    """Validate a `key:value` filter.

    Raises:
        BadParameterError: the label has no colon.
    """
    if label is not None and ":" not in label:
        raise BadParameterError(f"label={label!r}: use the form key:value.")
    return label


def parse_ids(ids: str | None) -> list[str] | None:
    """Return the ids of a comma-separated list.

    Raises:
        BadParameterError: there are more than `MAX_IDS`.
    """
    if ids is None:
        return None
    listed = [each for each in ids.split(",") if each]
    if len(listed) > MAX_IDS:
        raise BadParameterError(f"ids: {len(listed)} ids were sent; the limit is {MAX_IDS}.")
    return listed
