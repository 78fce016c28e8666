"""Browser sessions: a cookie that holds the token it was created with, at `/api/session`."""

from typing import Annotated

from fastapi import APIRouter, Depends, Header, Response
from pydantic import BaseModel, Field

from services.status.api.dependencies import own_origin
from shared.auth.auth import SESSION, Asker, bearer
from shared.auth.principal import Principal, Role
from shared.errors import BadParameterError
from shared.events.moments import utc_now
from shared.http.problems import ERROR_RESPONSES

MAX_COOKIE = 3800
"""Maximum characters of a token in a cookie. Browsers allow 4096 bytes including attributes."""

router = APIRouter(prefix="/api/session", tags=["page"], responses=ERROR_RESPONSES)


class Session(BaseModel):
    """The authenticated user."""

    subject: str
    tenant: str | None
    roles: list[Role]
    expires_at: float | None = Field(description="Unix seconds; null for never.")

    @classmethod
    def of(cls, asker: Principal) -> "Session":
        return cls(
            subject=asker.subject,
            tenant=asker.tenant,
            roles=sorted(asker.roles),
            expires_at=asker.expires_at,
        )


@router.get("")
async def read_session(asker: Asker) -> Session:
    """Return the user of the token or cookie."""
    return Session.of(asker)


@router.post("", dependencies=[Depends(own_origin)])
async def begin_session(
    asker: Asker,
    response: Response,
    authorization: Annotated[str, Header(include_in_schema=False)] = "",
) -> Session:
    """Store the request's token in a cookie, so that the browser sends it until it expires.

    Scripts on the page cannot read the cookie, and pages of other sites cannot cause it to be sent.
    """
    token = bearer(authorization)
    if len(token) > MAX_COOKIE:
        raise BadParameterError(
            f"The token has {len(token)} characters; the limit for a cookie is {MAX_COOKIE}."
        )
    max_age = None
    if asker.expires_at is not None:
        max_age = max(0, int(asker.expires_at - utc_now().timestamp()))
    response.set_cookie(
        SESSION, token, max_age=max_age, path="/", secure=True, httponly=True, samesite="strict"
    )
    return Session.of(asker)


@router.delete("", status_code=204, dependencies=[Depends(own_origin)])
async def end_session(response: Response) -> None:
    """Delete the cookie. The token itself stays valid."""
    response.delete_cookie(SESSION, path="/", secure=True, httponly=True, samesite="strict")
