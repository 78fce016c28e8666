"""Settings of the processor."""

import os
from typing import Annotated

from pydantic import Field, field_validator
from pydantic_settings import NoDecode

from services.processor.isolation.rung import Policy
from shared.settings import Settings


class ProcessorSettings(Settings):
    """Settings of the processor: concurrency, limits, retries and isolation."""

    port: int = Field(
        default=8002, ge=0, le=65535, description="Port of the health and metrics endpoints."
    )
    workers: int = Field(
        default_factory=lambda: max(2, os.cpu_count() or 2),
        ge=1,
        description="Worker processes per pod. Default: one per core, at least 2.",
    )
    window: int = Field(
        default=500,
        ge=1,
        le=1000,
        description="Records of one partition that may be in flight in a pod. The open ones must "
        "fit into a commit's metadata.",
    )
    window_bytes: int = Field(
        default=64 * 1024**2,
        ge=1,
        description="Bytes of all records that may be in flight in a pod.",
    )
    large_file: int = Field(
        default=1024**2,
        ge=1,
        description="Bytes from which a file counts as large. Small files overtake large ones, and "
        "large files leave one slot free for small ones.",
    )
    owner_limit: int | None = Field(
        default=None,
        ge=1,
        description="Files of one owner that a pod processes at once. Default: all slots but one.",
    )
    max_attempts: int = Field(
        default=3, ge=1, description="Attempts at a file before it fails permanently."
    )
    time_limit: float = Field(
        default=900.0, gt=0, description="Seconds after which an attempt is killed."
    )
    memory_limit: int = Field(
        default=2 * 1024**3, gt=0, description="Bytes of memory that a worker process may use."
    )
    file_limit: int = Field(
        default=4 * 1024**3, gt=0, description="Bytes that one temporary file of a worker may have."
    )
    worker_files: int = Field(
        default=1000, ge=1, description="Files after which a worker process is replaced."
    )
    worker_growth: int = Field(
        default=1024**3,
        gt=0,
        description="Bytes of memory above which a worker process is replaced after a file.",
    )
    isolation: Policy = Field(
        default=Policy.REQUIRE,
        description="`require`: start only if workers can be isolated from the network, other "
        "files and secrets. `prefer`: isolate as far as the machine supports it. `off`: do not "
        "isolate workers. The local stack defaults to `prefer`; see "
        "[docs/security.md](docs/security.md).",
    )
    worker_paths: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        description="Files and directories that workers may read, comma-separated, in addition to "
        "programs, libraries and Python code, such as a plugin's models.",
    )
    backoff_first: float = Field(
        default=2.0,
        gt=0,
        description="Seconds before the second attempt; doubled for each later one.",
    )
    backoff_max: float = Field(
        default=3600.0, gt=0, description="Longest wait between two attempts, in seconds."
    )
    ocr: bool = Field(default=True, description="Recognize text in images (OCR).")
    plugins: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        description="Modules with your own pipelines, comma-separated, in addition to installed "
        "plugins.",
    )
    scratch: str | None = Field(
        default=None, description="Directory for temporary files. Default: the system's."
    )
    pod: str = Field(
        default_factory=lambda: f"{os.uname().nodename}-{os.getpid()}",
        description="Name of this pod in events and logs. Default: host and process id.",
    )

    @field_validator("plugins", "worker_paths", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return [each.strip() for each in value.split(",")] if isinstance(value, str) else value
