"""One-time tickets: `POST /api/tickets`, and the streams that accept them."""

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
"""The query parameter of a stream's address."""

router = APIRouter(
    prefix="/api/tickets",
    tags=["live"],
    responses=ERROR_RESPONSES,
    dependencies=[Depends(own_origin), Depends(reader)],
)


@router.post("", status_code=201)
async def issue_ticket(asker: Asker, tickets: TicketsOf) -> Ticket:
    """Issue a ticket that opens one stream, once, within 30 seconds, on any pod: `?ticket=…`.

    The ticket represents the user while their token or API key is valid, and permits reading only.
    It is for pages that cannot send a header with an `EventSource` or a `WebSocket`.
    """
    return await tickets.issue(asker)


def has_ticket(connection: HTTPConnection) -> bool:
    """Return True if the stream's address contains a ticket."""
    return TICKET in connection.query_params


class Following(PrincipalDependency):
    """Authenticates requests for a stream: by ticket, or in the usual way."""

    async def __call__(self, connection: HTTPConnection) -> Principal:
        """Return the principal of the request.

        Raises:
            AccessError: as for `Authenticator`, or the ticket is invalid.
        """
        ticket = connection.query_params.get(TICKET)
        if ticket is None:
            return await super().__call__(connection)
        tickets: Tickets = connection.state.tickets
        if is_head(connection.scope):  # It opens no stream, so the ticket stays valid.
            return await tickets.look_up(ticket)
        return await tickets.redeem(ticket)


following = Following()

_in_address = APIKeyQuery(
    name=TICKET,
    scheme_name="ticket",
    description="A ticket from `POST /api/tickets`, valid for one stream.",
    auto_error=False,
)


async def follower(asker: Annotated[Principal, Security(following)]) -> Visibility:
    """Return the files that the user of a stream may see.

    Raises:
        ForbiddenError: the credential does not include reading.
    """
    asker.require(Scope.READ)
    return Visibility.of(asker)


Followable = Annotated[Visibility, Depends(follower)]
documented = Security(_in_address)
"""Documents the ticket in the OpenAPI document."""
