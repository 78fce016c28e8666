"""The one spelling of ids: UUIDs in small letters (RFC 9562, 4), however a client spells them."""

import re
from typing import Annotated

from pydantic import AfterValidator

_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.IGNORECASE)


def canonical_id(text: str) -> str:
    """Return a UUID in small letters, and any other text as it is.

    Other spellings of UUIDs, such as those without hyphens, name nothing here.
    """
    return text.lower() if _UUID.fullmatch(text) else text


CanonicalId = Annotated[str, AfterValidator(canonical_id)]
"""An id as an endpoint is given it."""
