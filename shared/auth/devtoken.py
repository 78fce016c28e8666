"""Print a development token, signed with `WAYBILL_AUTH_SECRET`."""

import argparse
import os
import sys
import time

import jwt

HOURS = 8.0
"""Default lifetime of a token in hours: a working day."""


def main() -> None:
    """Run `python -m shared.auth.devtoken`."""
    parser = argparse.ArgumentParser(prog="waybill token", description=__doc__)
    parser.add_argument("subject", help="user that the token names (`sub`)")
    parser.add_argument("--tenant")
    parser.add_argument("--role", action="append", default=[], help="operator or admin")
    parser.add_argument("--hours", type=float, default=HOURS)
    arguments = parser.parse_args()
    secret = os.environ.get("WAYBILL_AUTH_SECRET")
    if not secret:
        sys.exit("WAYBILL_AUTH_SECRET is not set; request tokens from your issuer instead.")
    claims = {
        "sub": arguments.subject,
        "tenant": arguments.tenant,
        "roles": arguments.role,
        "iss": os.environ.get("WAYBILL_AUTH_ISSUER"),
        "aud": os.environ.get("WAYBILL_AUTH_AUDIENCE"),
        "exp": time.time() + arguments.hours * 3600,
    }
    present = {name: value for name, value in claims.items() if value is not None}
    sys.stdout.write(jwt.encode(present, secret, "HS256") + "\n")


if __name__ == "__main__":
    main()
