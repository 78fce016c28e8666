"""The session of a browser: a cookie that stands for the token which began it, `/api/session`."""

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
"""Characters of a token that fits into a cookie: browsers take 4096 bytes with its attributes."""

router = APIRouter(prefix="/api/session", tags=["page"], responses=ERROR_RESPONSES)


class Session(BaseModel):
    """Who asks."""

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
    """Who asks, by token or by cookie."""
    return Session.of(asker)


@router.post("", dependencies=[Depends(own_origin)])
async def begin_session(
    asker: Asker,
    response: Response,
    authorization: Annotated[str, Header(include_in_schema=False)] = "",
) -> Session:
    """Have the browser send the token of this request by itself from now on, until it ends.

    Scripts of the page cannot read it then, and pages of other sites cannot have it sent.
    """
    token = bearer(authorization)
    if len(token) > MAX_COOKIE:
        raise BadParameterError(f"A token of more than {MAX_COOKIE} characters fits no cookie.")
    lasts = None
    if asker.expires_at is not None:
        lasts = max(0, int(asker.expires_at - utc_now().timestamp()))
    response.set_cookie(
        SESSION, token, max_age=lasts, path="/", secure=True, httponly=True, samesite="strict"
    )
    return Session.of(asker)


@router.delete("", status_code=204, dependencies=[Depends(own_origin)])
async def end_session(response: Response) -> None:
    """Have the browser forget the token. It stays as good as it was."""
    response.delete_cookie(SESSION, path="/", secure=True, httponly=True, samesite="strict")
