"""Signed addresses, by which somebody else puts a blob into an object store without our secrets."""

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
    """Signs for a store that speaks S3."""

    def __init__(self, store: S3Store) -> None:
        self._store = store

    async def to_put(self, key: str, *, lasts: timedelta) -> str:
        """The address to which one `PUT` stores its body under `key`, any number of times.

        The signature binds the key and the method. It does not bind the size: S3 takes up to 5 GiB.

        Raises:
            BlobStoreUnavailableError: the credentials cannot be had.
        """
        try:
            return await obstore.sign_async(self._store, "PUT", key, lasts)
        except (BaseError, OSError) as error:  # There are no credentials to be had.
            log.warning("an address cannot be signed: %s", error)
            raise BlobStoreUnavailableError from error


def open_signer(settings: Settings, *, endpoint: str | None) -> Signer | None:
    """Signs for the store that `WAYBILL_BLOBS` names; None if that is none that speaks S3.

    Args:
        endpoint: the server as clients reach it, if that is another address than ours for it.
    """
    if not settings.blobs.startswith("s3://"):
        return None
    store = open_object_store(settings.blobs, endpoint or settings.blobs_endpoint)
    return Signer(store) if isinstance(store, S3Store) else None
