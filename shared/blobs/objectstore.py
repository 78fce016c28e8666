"""Opening the object stores that obstore speaks to."""

import copy
from datetime import timedelta
from typing import Any

from obstore.store import ObjectStore, from_url

PATIENCE: dict[str, Any] = {
    "client_options": {"connect_timeout": "3s", "read_timeout": "20s", "timeout": "30m"},
    "retry_config": {"max_retries": 3, "retry_timeout": timedelta(seconds=15)},
}
"""How long an object store may take. A silent one is given up after seconds, so that a request can
be answered 503; the long time-out is for the whole of the largest file over a slow line."""


def open_object_store(address: str, endpoint: str | None) -> ObjectStore:
    """The object store at an address such as `s3://bucket/prefix`.

    Args:
        endpoint: the server, if it is not the cloud's own.
    """
    options = copy.deepcopy(PATIENCE)
    if endpoint:
        options["endpoint"] = endpoint
        options["client_options"]["allow_http"] = endpoint.startswith("http://")
    return from_url(address, **options)
