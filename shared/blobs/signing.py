"""Presigned URLs, with which clients upload to an object store without its credentials."""

import logging
from datetime import timedelta

import obstore
from obstore.exceptions import BaseError
from obstore.store import S3Store

from shared.blobs.objectstore import open_object_store
from shared.errors import BlobStoreUnavailableError
from shared.settings import Settings

log = logging.getLogger(__name__)


class Signer:
    """Creates presigned URLs for an S3-compatible store."""

    def __init__(self, store: S3Store) -> None:
        self._store = store

    async def to_put(self, key: str, *, lasts: timedelta) -> str:
        """Return a URL to which clients can `PUT` the content of `key`, any number of times.

        The signature covers the key and the method, but not the size: S3 accepts up to 5 GiB.

        Args:
            lasts: lifetime of the URL.

        Raises:
            BlobStoreUnavailableError: the credentials are not available.
        """
        try:
            return await obstore.sign_async(self._store, "PUT", key, lasts)
        except (BaseError, OSError) as error:  # Credentials are not available.
            log.warning("a URL cannot be signed: %s", error)
            raise BlobStoreUnavailableError from error


def open_signer(settings: Settings, *, endpoint: str | None) -> Signer | None:
    """Return a signer for the store that `WAYBILL_BLOBS` names; None if it does not use S3.

    Args:
        endpoint: URL under which clients reach the server, if it differs from the service's.
    """
    if not settings.blobs.startswith("s3://"):
        return None
    store = open_object_store(settings.blobs, endpoint or settings.blobs_endpoint)
    return Signer(store) if isinstance(store, S3Store) else None
