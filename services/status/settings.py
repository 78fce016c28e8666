"""Settings of the status service."""

from typing import Annotated

from pydantic import Field, field_validator
from pydantic_settings import NoDecode

from services.status.retention_rules import Rule
from shared.http.cors import ANY, CorsPolicy, read_origins
from shared.settings import AccessSettings


class StatusSettings(AccessSettings):
    """Where the page and the API answer, and the bounds of what they hold."""

    port: int = Field(
        default=8000, ge=0, le=65535, description="Port of the status service and the page."
    )
    upload_url: str = Field(
        default="http://127.0.0.1:8001",
        description="Public address of the upload service, told to the page.",
    )
    cors_origins: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        description="Origins of pages elsewhere that may use this service like its own page, "
        "comma-separated; `*` is none.",
    )
    max_wait: float = Field(
        default=60.0, gt=0, description="Seconds a long poll (`?wait=`) may last at most."
    )
    time_limit: float = Field(
        default=900.0,
        gt=0,
        description="Seconds one attempt may take, if an older processor did not tell its limit: a "
        "longer one is stuck.",
    )
    heartbeat: float = Field(
        default=15.0, gt=0, description="Seconds of silence after which a stream sends a heartbeat."
    )
    max_subscribers: int = Field(
        default=10_000, ge=1, description="Live connections at once; more are answered 503."
    )
    max_subscribers_per_client: int = Field(
        default=1_000,
        ge=1,
        description="Live connections from one address at once; more are answered 503.",
    )
    retention: tuple[Rule, ...] = Field(
        default=(),
        description='When files that have ended are deleted, as JSON: `[{"label": "kind:scan",'
        ' "days": 7}, {"days": 90}]`; or by `owner`, `tenant`. The first rule for a file decides.',
    )
    webhooks_private: bool = Field(
        default=False,
        description="Let webhooks have addresses that are not public, and HTTP: for trials only.",
    )

    @property
    def trusted_pages(self) -> frozenset[str]:
        """Origins of pages elsewhere that may read and command in the name of who looks at them."""
        return frozenset(self.cors_origins) - {ANY}

    @property
    def cors_policy(self) -> CorsPolicy | None:
        """Which pages elsewhere may use this service; None if there are none."""
        if not self.trusted_pages:
            return None
        return CorsPolicy(origins=self.trusted_pages, credentials=self.auth == "jwt")

    @field_validator("cors_origins", mode="before")
    @classmethod
    def _origins(cls, value: object) -> object:
        return read_origins(value)
