"""What the endpoints fetch from the application's state, and what they ask of a request."""

from typing import Annotated, TypedDict
from urllib.parse import urlsplit

from fastapi import Depends, Header
from starlette.requests import HTTPConnection

from services.status.dead import DeadLetters
from services.status.hub import Hub
from services.status.runs import Runs
from services.status.settings import StatusSettings
from services.status.store import FileStore
from shared.blobs import BlobStore
from shared.errors import CatchingUpError, ForeignOriginError
from shared.messaging import Publisher


class State(TypedDict):
    """What the lifespan of the application yields."""

    settings: StatusSettings
    store: FileStore
    hub: Hub
    blobs: BlobStore
    publisher: Publisher
    runs: Runs
    letters: DeadLetters


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


def _publisher(connection: HTTPConnection) -> Publisher:
    publisher: Publisher = connection.state.publisher
    return publisher


def _runs(connection: HTTPConnection) -> Runs:
    runs: Runs = connection.state.runs
    return runs


def _letters(connection: HTTPConnection) -> DeadLetters:
    letters: DeadLetters = connection.state.letters
    return letters


def up_to_date(connection: HTTPConnection) -> None:
    """Answer nothing from a pod that does not know the present yet.

    Raises:
        CatchingUpError: the projector has not yet passed the place where this pod's tail begins.
    """
    behind = _hub(connection).behind
    if behind is not None:
        raise CatchingUpError(f"This pod is catching up, it waits for {behind}: ask again.")


def own_origin(
    host: Annotated[str, Header(include_in_schema=False)] = "",
    origin: Annotated[str | None, Header(include_in_schema=False)] = None,
) -> None:
    """Take a command from our own page, or from what is no browser, which sends no `Origin`.

    Raises:
        ForeignOriginError: another site's page sends it, in the name of whoever looks at it.
    """
    if origin is not None and urlsplit(origin).netloc.lower() != host.lower():
        raise ForeignOriginError(f"Commands are taken from the page at {host}, not from {origin}.")


SettingsOf = Annotated[StatusSettings, Depends(_settings)]
StoreOf = Annotated[FileStore, Depends(_store)]
HubOf = Annotated[Hub, Depends(_hub)]
BlobsOf = Annotated[BlobStore, Depends(_blobs)]
PublisherOf = Annotated[Publisher, Depends(_publisher)]
RunsOf = Annotated[Runs, Depends(_runs)]
DeadLettersOf = Annotated[DeadLetters, Depends(_letters)]
