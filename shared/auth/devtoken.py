"""Tokens for development, signed with `WAYBILL_AUTH_SECRET`: `python -m shared.auth.devtoken`."""

import argparse
import os
import sys
import time

import jwt

HOURS = 8.0
"""How long a token lasts, if it is not said otherwise: a day's work."""


def main() -> None:
    """Print a token."""
    parser = argparse.ArgumentParser(prog="waybill token", description=__doc__)
    parser.add_argument("subject", help="who has it")
    parser.add_argument("--tenant")
    parser.add_argument("--role", action="append", default=[], help="operator or admin")
    parser.add_argument("--hours", type=float, default=HOURS)
    asked = parser.parse_args()
    secret = os.environ.get("WAYBILL_AUTH_SECRET")
    if not secret:
        sys.exit("WAYBILL_AUTH_SECRET is not set: an issuer's tokens come from the issuer.")
    claims = {
        "sub": asked.subject,
        "tenant": asked.tenant,
        "roles": asked.role,
        "iss": os.environ.get("WAYBILL_AUTH_ISSUER"),
        "aud": os.environ.get("WAYBILL_AUTH_AUDIENCE"),
        "exp": time.time() + asked.hours * 3600,
    }
    given = {name: value for name, value in claims.items() if value is not None}
    sys.stdout.write(jwt.encode(given, secret, "HS256") + "\n")


if __name__ == "__main__":
    main()
