"""Settings of the upload service."""

from typing import Annotated, Literal

from pydantic import Field, field_validator
from pydantic_settings import NoDecode

from shared.auth.origins import origin_of
from shared.http.cors import ANY, CorsPolicy, read_origins
from shared.settings import AccessSettings

WRAPPING = 1 << 20
"""Bytes that the boundaries, headers and fields of a multipart body may add to its files."""


class UploadSettings(AccessSettings):
    """What the upload service accepts, and how much at once."""

    port: int = Field(
        default=8001, ge=0, le=65535, description="Port of the upload service; 0 takes a free one."
    )
    max_file_size: int = Field(
        default=5 * 1024**3, gt=0, description="Bytes of the largest file that is accepted."
    )
    max_request_size: int = Field(
        default=5 * 1024**3,
        gt=0,
        description="Bytes that the files of one request may have together; never less than one "
        "file may have.",
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
        description="Content types that are refused, comma-separated; `image/*` means all images.",
    )
    max_uploads: int = Field(
        default=64, ge=1, description="Uploads in work at once; more are answered 503."
    )
    publish_timeout: float = Field(
        default=2.0,
        gt=0,
        description="Seconds to wait for Kafka before the event of an upload goes to the outbox.",
    )
    idle_timeout: float = Field(
        default=60.0,
        gt=0,
        description="Seconds of silence after which an upload that does not go on is given up.",
    )
    min_rate: float = Field(
        default=1024.0,
        gt=0,
        description="Bytes a second that an upload must bring on average; a slower one is given up "
        "after the time that silence may last.",
    )
    owner_uploads: int | None = Field(
        default=None,
        ge=1,
        description="Upload requests of one owner in a minute; more are answered 429. Default: any "
        "number.",
    )
    owner_bytes: int | None = Field(
        default=None,
        ge=1,
        description="Bytes that one owner may upload in a day; more are answered 429. Default: any "
        "number.",
    )
    owner_at_once: int | None = Field(
        default=None,
        ge=1,
        description="Uploads of one owner under way at once, direct ones that are not completed "
        "among them; more are answered 429. Default: any number.",
    )
    fetch: bool = Field(
        default=False,
        description="Fetch files from public https addresses that users name "
        "(`POST /api/files/upload/from-url`).",
    )
    fetch_timeout: float = Field(
        default=300.0, gt=0, description="Seconds that fetching one file may take."
    )
    fetch_private: bool = Field(
        default=False,
        description="Fetch from addresses that are not public, and by HTTP: for trials only.",
    )
    deduplicate: Literal["off", "asked", "always"] = Field(
        default="off",
        description="Give an owner who uploads equal content again the earlier file: if the "
        "request asks for it (`deduplicate=true`), or always, unless it asks not to.",
    )
    direct: bool = Field(
        default=False,
        description="Let clients put files into an S3-compatible store themselves "
        "(`POST /api/files/upload/direct`).",
    )
    direct_endpoint: str | None = Field(
        default=None,
        description="Address of that store as clients reach it. Default: `WAYBILL_BLOBS_ENDPOINT`.",
    )
    status_url: str = Field(
        default="",
        description="Public address of the status service, put before the `Location` of an upload.",
    )
    cors_origins: Annotated[tuple[str, ...], NoDecode] = Field(
        default=("*",),
        description="Origins of pages that may upload from a browser, comma-separated. With `jwt` "
        "beside the status service's, and `*` is none.",
    )

    @property
    def trusted_pages(self) -> frozenset[str]:
        """Origins of pages that may upload in the name of who looks at them: the status service's,
        and those that are named."""
        named = set(self.cors_origins) - {ANY}
        return frozenset({origin_of(self.status_url), *named} - {""})

    @property
    def cors_policy(self) -> CorsPolicy:
        """Which pages of other origins may upload; where we ask who one is, with their cookie."""
        asks = self.auth == "jwt"
        origins = self.trusted_pages if asks else frozenset(self.cors_origins)
        return CorsPolicy(origins=origins, credentials=asks)

    @property
    def request_limit(self) -> int:
        """Bytes of the largest multipart body: its files and what wraps them."""
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
