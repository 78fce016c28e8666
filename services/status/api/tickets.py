"""One-time tickets: `POST /api/tickets`, and the streams that take them."""

from typing import Annotated

from fastapi import APIRouter, Depends, Security
from fastapi.security import APIKeyQuery
from starlette.requests import HTTPConnection

from services.status.api.dependencies import TicketsOf, own_origin, reader
from services.status.store.access import Visibility
from services.status.tickets import Ticket, Tickets
from shared.auth.auth import Asker, PrincipalDependency
from shared.auth.principal import Principal, Scope
from shared.http.head_method import is_head
from shared.http.problems import ERROR_RESPONSES

TICKET = "ticket"
"""The parameter of a stream's address."""

router = APIRouter(
    prefix="/api/tickets",
    tags=["live"],
    responses=ERROR_RESPONSES,
    dependencies=[Depends(own_origin), Depends(reader)],
)


@router.post("", status_code=201)
async def issue_ticket(asker: Asker, tickets: TicketsOf) -> Ticket:
    """A ticket that opens one stream, once, within half a minute, on any pod: `?ticket=…`.

    It stands for who asks, for as long as their token or API key does, and for reading only. It is
    for pages that cannot send a header with an `EventSource` or a `WebSocket`.
    """
    return await tickets.issue(asker)


def has_ticket(connection: HTTPConnection) -> bool:
    """Whether a stream is asked for with a ticket."""
    return TICKET in connection.query_params


class Following(PrincipalDependency):
    """Tells who asks for a stream: by its ticket, or as everywhere."""

    async def __call__(self, connection: HTTPConnection) -> Principal:
        """Raises what an `Authenticator` does."""
        ticket = connection.query_params.get(TICKET)
        if ticket is None:
            return await super().__call__(connection)
        tickets: Tickets = connection.state.tickets
        if is_head(connection.scope):  # It opens no stream, so the ticket stays good for one.
            return await tickets.look_up(ticket)
        return await tickets.redeem(ticket)


following = Following()

_in_address = APIKeyQuery(
    name=TICKET,
    scheme_name="ticket",
    description="From `POST /api/tickets`; good for one stream.",
    auto_error=False,
)


async def follower(asker: Annotated[Principal, Security(following)]) -> Visibility:
    """What who asks for a stream may read.

    Raises:
        ForbiddenError: the credential is not for reading.
    """
    asker.require(Scope.READ)
    return Visibility.of(asker)


Followable = Annotated[Visibility, Depends(follower)]
documented = Security(_in_address)
"""Names the ticket in the OpenAPI document."""
