"""Errors for callers that are not authenticated or not authorized.

AccessError
├── ForeignOriginError              403
├── UnauthenticatedError            401
│   ├── InvalidTokenError           401
│   └── TokenExpiredError           401
└── ForbiddenError                  403
"""

from shared.errors import RefusedError


class AccessError(RefusedError):
    """The caller has no access."""

    code = "forbidden"
    status = 403


class ForeignOriginError(AccessError):
    """Pages of this origin may not send this request."""

    code = "foreign_origin"
    status = 403


class UnauthenticatedError(AccessError):
    """Authentication is required: send a token as `Authorization: Bearer …`."""

    code = "unauthenticated"
    status = 401
    challenge = 'Bearer realm="waybill"'


class InvalidTokenError(UnauthenticatedError):
    """The token is invalid."""

    code = "invalid_token"
    challenge = 'Bearer realm="waybill", error="invalid_token"'


class TokenExpiredError(UnauthenticatedError):
    """The token has expired: request a new one."""

    code = "token_expired"
    challenge = 'Bearer realm="waybill", error="invalid_token", error_description="expired"'


class ForbiddenError(AccessError):
    """The caller does not have permission for this."""

    code = "forbidden"
    status = 403
