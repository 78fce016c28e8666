"""Settings of the status service."""

from typing import Annotated

from pydantic import Field, field_validator
from pydantic_settings import NoDecode

from services.status.retention_rules import Rule
from shared.http.cors import ANY, CorsPolicy, read_origins
from shared.settings import AccessSettings


class StatusSettings(AccessSettings):
    """Addresses and limits of the page and the API."""

    port: int = Field(
        default=8000, ge=0, le=65535, description="Port of the status service and the page."
    )
    upload_url: str = Field(
        default="http://127.0.0.1:8001",
        description="Public address of the upload service, used by the page.",
    )
    cors_origins: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        description="Other origins whose pages may use this service like its own page, "
        "comma-separated. `*` has no effect.",
    )
    max_wait: float = Field(
        default=60.0, gt=0, description="Maximum duration of a long poll (`?wait=`), in seconds."
    )
    time_limit: float = Field(
        default=900.0,
        gt=0,
        description="Seconds after which an attempt counts as stuck. Used only for events of older "
        "processors, which do not report their time limit.",
    )
    heartbeat: float = Field(
        default=15.0, gt=0, description="Idle seconds after which a stream sends a heartbeat."
    )
    max_subscribers: int = Field(
        default=10_000,
        ge=1,
        description="Maximum live connections per pod. Others are rejected with 503.",
    )
    max_subscribers_per_client: int = Field(
        default=1_000,
        ge=1,
        description="Maximum live connections per pod from one IP address. Others are rejected "
        "with 503.",
    )
    retention: tuple[Rule, ...] = Field(
        default=(),
        description='When to delete finished files, as JSON: `[{"label": "kind:scan", "days": 7},'
        ' {"days": 90}]`. `owner` and `tenant` also select files. The first matching rule applies.',
    )
    webhooks_private: bool = Field(
        default=False,
        description="Allow webhooks with private addresses and plain HTTP. For testing only.",
    )

    @property
    def trusted_pages(self) -> frozenset[str]:
        """Other origins whose pages may read and send commands on behalf of their users."""
        return frozenset(self.cors_origins) - {ANY}

    @property
    def cors_policy(self) -> CorsPolicy | None:
        """The CORS policy for pages of other origins; None if there are none."""
        if not self.trusted_pages:
            return None
        return CorsPolicy(origins=self.trusted_pages, credentials=self.auth == "jwt")

    @field_validator("cors_origins", mode="before")
    @classmethod
    def _origins(cls, value: object) -> object:
        return read_origins(value)
