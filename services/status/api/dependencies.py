"""What the endpoints fetch from the application's state."""

from typing import Annotated, TypedDict

from fastapi import Depends
from starlette.requests import HTTPConnection

from services.status.hub import Hub
from services.status.settings import StatusSettings
from services.status.store import FileStore
from shared.blobs import BlobStore


class State(TypedDict):
    """What the lifespan of the application yields."""

    settings: StatusSettings
    store: FileStore
    hub: Hub
    blobs: BlobStore


def _settings(connection: HTTPConnection) -> StatusSettings:
    settings: StatusSettings = connection.state.settings
    return settings


def _store(connection: HTTPConnection) -> FileStore:
    store: FileStore = connection.state.store
    return store


def _hub(connection: HTTPConnection) -> Hub:
    hub: Hub = connection.state.hub
    return hub


def _blobs(connection: HTTPConnection) -> BlobStore:
    blobs: BlobStore = connection.state.blobs
    return blobs


SettingsOf = Annotated[StatusSettings, Depends(_settings)]
StoreOf = Annotated[FileStore, Depends(_store)]
HubOf = Annotated[Hub, Depends(_hub)]
BlobsOf = Annotated[BlobStore, Depends(_blobs)]
