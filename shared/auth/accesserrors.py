"""Why somebody is refused whatever they ask for.

AccessError
├── ForeignOriginError              403
├── UnauthenticatedError            401
│   ├── InvalidTokenError           401
│   └── TokenExpiredError           401
└── ForbiddenError                  403
"""

from shared.errors import RefusedError


class AccessError(RefusedError):
    """Who asks may not."""

    code = "forbidden"
    status = 403


class ForeignOriginError(AccessError):
    """Another site's page may not give commands here."""

    code = "foreign_origin"
    status = 403


class UnauthenticatedError(AccessError):
    """Say who you are: send a token as `Authorization: Bearer …`."""

    code = "unauthenticated"
    status = 401
    challenge = 'Bearer realm="waybill"'


class InvalidTokenError(UnauthenticatedError):
    """The token is none that this service accepts."""

    code = "invalid_token"
    challenge = 'Bearer realm="waybill", error="invalid_token"'


class TokenExpiredError(UnauthenticatedError):
    """The token has expired: get a new one."""

    code = "token_expired"
    challenge = 'Bearer realm="waybill", error="invalid_token", error_description="expired"'


class ForbiddenError(AccessError):
    """Who you are does not allow this."""

    code = "forbidden"
    status = 403
