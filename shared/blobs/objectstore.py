"""Opening the object stores that obstore supports."""

import copy
from datetime import timedelta
from typing import Any

from obstore.store import ObjectStore, from_url

TIMEOUTS: dict[str, Any] = {
    "client_options": {"connect_timeout": "3s", "read_timeout": "20s", "timeout": "30m"},
    "retry_config": {"max_retries": 3, "retry_timeout": timedelta(seconds=15)},
}
"""Timeouts and retries. An unresponsive store fails within seconds, so that the service can respond
with 503. The long timeout covers the transfer of the largest file over a slow connection."""


def open_object_store(address: str, endpoint: str | None) -> ObjectStore:
    """Open the object store at an address such as `s3://bucket/prefix`.

    Args:
        endpoint: URL of the server, if it is not the cloud provider's.
    """
    options = copy.deepcopy(TIMEOUTS)
    if endpoint:
        options["endpoint"] = endpoint
        options["client_options"]["allow_http"] = endpoint.startswith("http://")
    return from_url(address, **options)
