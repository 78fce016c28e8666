"""Settings of the upload service."""

from typing import Annotated, Literal

from pydantic import Field, field_validator
from pydantic_settings import NoDecode

from shared.auth.origins import origin_of
from shared.http.cors import ANY, CorsPolicy, read_origins
from shared.settings import AccessSettings

WRAPPING = 1 << 20
"""Bytes that boundaries, headers and fields may add to the files of a multipart body."""


class UploadSettings(AccessSettings):
    """Settings of the upload service: limits, timeouts and optional endpoints."""

    port: int = Field(
        default=8001,
        ge=0,
        le=65535,
        description="Port of the upload service; 0 selects a free port.",
    )
    max_file_size: int = Field(
        default=5 * 1024**3, gt=0, description="Maximum size of a file in bytes."
    )
    max_request_size: int = Field(
        default=5 * 1024**3,
        gt=0,
        description="Maximum total size in bytes of the files in one request; at least "
        "`WAYBILL_MAX_FILE_SIZE`.",
    )
    forbidden_types: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(
            "application/x-dosexec",
            "application/x-msdownload",
            "application/vnd.microsoft.portable-executable",
            "application/x-executable",
            "application/x-elf",
            "application/x-sharedlib",
            "application/x-mach-binary",
        ),
        description="Content types to reject, comma-separated; `image/*` means all images.",
    )
    max_uploads: int = Field(
        default=64, ge=1, description="Maximum number of concurrent uploads; further ones get 503."
    )
    publish_timeout: float = Field(
        default=2.0,
        gt=0,
        description="Seconds to wait for Kafka before the event of an upload goes to the outbox.",
    )
    idle_timeout: float = Field(
        default=60.0,
        gt=0,
        description="Seconds without data after which an upload is aborted.",
    )
    min_rate: float = Field(
        default=1024.0,
        gt=0,
        description="Minimum average bytes per second of an upload; a slower one is aborted after "
        "`WAYBILL_IDLE_TIMEOUT`.",
    )
    owner_uploads: int | None = Field(
        default=None,
        ge=1,
        description="Uploads per owner and minute; further ones get 429. Default: unlimited.",
    )
    owner_bytes: int | None = Field(
        default=None,
        ge=1,
        description="Bytes per owner and day; further uploads get 429. Default: unlimited.",
    )
    owner_at_once: int | None = Field(
        default=None,
        ge=1,
        description="Concurrent uploads per owner, including incomplete direct uploads; further "
        "ones get 429. Default: unlimited.",
    )
    fetch: bool = Field(
        default=False,
        description="Fetch files from public https URLs on request "
        "(`POST /api/files/upload/from-url`).",
    )
    fetch_timeout: float = Field(
        default=300.0, gt=0, description="Maximum seconds to fetch one file."
    )
    fetch_private: bool = Field(
        default=False,
        description="Also fetch from private addresses and over plain HTTP; for testing only.",
    )
    deduplicate: Literal["off", "asked", "always"] = Field(
        default="off",
        description="When to return an owner's earlier file for equal content: never (`off`), if "
        "the request sets `deduplicate=true` (`asked`), or unless it sets `deduplicate=false` "
        "(`always`).",
    )
    direct: bool = Field(
        default=False,
        description="Let clients upload straight to the S3-compatible blob store "
        "(`POST /api/files/upload/direct`).",
    )
    direct_endpoint: str | None = Field(
        default=None,
        description="Endpoint of that store for clients. Default: `WAYBILL_BLOBS_ENDPOINT`.",
    )
    status_url: str = Field(
        default="",
        description="Public URL of the status service, the base of `Location` and `status_url`.",
    )
    cors_origins: Annotated[tuple[str, ...], NoDecode] = Field(
        default=("*",),
        description="Origins whose pages may upload from a browser, comma-separated. With "
        "`WAYBILL_AUTH=jwt`, the status service's origin is always allowed and `*` is ignored.",
    )

    @property
    def trusted_pages(self) -> frozenset[str]:
        """Origins of pages that may upload as their user: the status service's and configured ones.

        `*` is not an origin and is left out.
        """
        named = set(self.cors_origins) - {ANY}
        return frozenset({origin_of(self.status_url), *named} - {""})

    @property
    def cors_policy(self) -> CorsPolicy:
        """The CORS policy. With authentication, only trusted pages may upload, with cookies."""
        asks = self.auth == "jwt"
        origins = self.trusted_pages if asks else frozenset(self.cors_origins)
        return CorsPolicy(origins=origins, credentials=asks)

    @property
    def request_limit(self) -> int:
        """Maximum size of a multipart body in bytes: its files plus `WRAPPING`."""
        return max(self.max_request_size, self.max_file_size) + WRAPPING

    @field_validator("cors_origins", mode="before")
    @classmethod
    def _origins(cls, value: object) -> object:
        return read_origins(value)

    @field_validator("forbidden_types", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value
