"""FastAPI dependencies: the application's state and checks on requests."""

from typing import Annotated, Any, TypedDict

from fastapi import Depends
from starlette.requests import HTTPConnection

from services.status.commands.commands import Commands
from services.status.commands.dead import DeadLetters
from services.status.commands.runs import Runs
from services.status.live.hub import Hub
from services.status.monitoring.monitor import Monitor
from services.status.replay.auditor import Auditor
from services.status.settings import StatusSettings
from services.status.store.access import Visibility
from services.status.store.store import FileStore
from services.status.tickets import Tickets
from services.status.webhooks.registry import Webhooks
from shared.auth.accesserrors import ForeignOriginError
from shared.auth.auth import Asker, Authenticator
from shared.auth.origins import is_own, origin_of
from shared.auth.principal import Scope
from shared.background.supervision import Supervisor
from shared.blobs.blobs import BlobStore
from shared.errors import CatchingUpError
from shared.http.cors import CorsPolicy
from shared.http.outbound import Outbound
from shared.kafka.publishing import Publisher


class AppState(TypedDict):
    """The state that the lifespan of the application yields."""

    settings: StatusSettings
    authenticator: Authenticator
    store: FileStore
    hub: Hub
    blobs: BlobStore
    publisher: Publisher
    runs: Runs
    commands: Commands
    letters: DeadLetters
    webhooks: Webhooks
    outbound: Outbound
    tickets: Tickets
    monitor: Monitor
    auditor: Auditor
    supervisor: Supervisor
    cors: CorsPolicy | None


def _fetch(name: str) -> Any:
    """Return a dependency on one member of the state.

    It is async, since FastAPI runs other dependencies in threads.
    """

    async def fetch(connection: HTTPConnection) -> Any:
        return getattr(connection.state, name)

    return Depends(fetch)


async def reader(asker: Asker) -> Visibility:
    """Return what the user may read.

    Raises:
        ForbiddenError: the credential does not include reading.
    """
    asker.require(Scope.READ)
    return Visibility.of(asker)


async def commander(asker: Asker) -> Visibility:
    """Return the files that the user may send commands for.

    Raises:
        ForbiddenError: the credential does not include commands.
    """
    asker.require(Scope.COMMAND)
    return Visibility.of(asker)


async def operator(asker: Asker) -> None:
    """Require an operator.

    Raises:
        ForbiddenError: the user is not an operator.
    """
    asker.require_operator()


async def admin(asker: Asker) -> None:
    """Require an admin.

    Raises:
        ForbiddenError: the user is not an admin.
    """
    asker.require_admin()


async def up_to_date(connection: HTTPConnection) -> None:
    """Reject requests until this pod has caught up.

    Raises:
        CatchingUpError: the projector has not yet reached the offset at which this pod's tail
            begins.
    """
    hub: Hub = connection.state.hub
    behind = hub.behind
    if behind is not None:
        raise CatchingUpError(f"This pod is catching up and waits for {behind}; retry.")


async def own_origin(connection: HTTPConnection) -> None:
    """Accept commands only from Waybill's own page, a trusted page, or a client without `Origin`.

    Clients that are not browsers send no `Origin`.

    Raises:
        ForeignOriginError: a page of another site sent the command on behalf of its user.
    """
    host = connection.headers.get("host", "")
    origin = connection.headers.get("origin")
    trusted: frozenset[str] = connection.state.settings.trusted_pages
    if origin is not None and not (is_own(origin, host) or origin_of(origin) in trusted):
        raise ForeignOriginError(
            f"Commands from {origin} are not accepted; use the page at {host}."
        )


Readable = Annotated[Visibility, Depends(reader)]
Commandable = Annotated[Visibility, Depends(commander)]
SettingsOf = Annotated[StatusSettings, _fetch("settings")]
StoreOf = Annotated[FileStore, _fetch("store")]
HubOf = Annotated[Hub, _fetch("hub")]
BlobsOf = Annotated[BlobStore, _fetch("blobs")]
PublisherOf = Annotated[Publisher, _fetch("publisher")]
RunsOf = Annotated[Runs, _fetch("runs")]
CommandsOf = Annotated[Commands, _fetch("commands")]
WebhooksOf = Annotated[Webhooks, _fetch("webhooks")]
TicketsOf = Annotated[Tickets, _fetch("tickets")]
OutboundOf = Annotated[Outbound, _fetch("outbound")]
AuditorOf = Annotated[Auditor, _fetch("auditor")]
MonitorOf = Annotated[Monitor, _fetch("monitor")]
SupervisorOf = Annotated[Supervisor, _fetch("supervisor")]
DeadLettersOf = Annotated[DeadLetters, _fetch("letters")]
