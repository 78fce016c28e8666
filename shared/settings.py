"""Settings that every service shares: each field is the environment variable `WAYBILL_<NAME>`."""

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

DEMO_TYPE = "application/vnd.waybill.demo+json"
"""The content type of files that say how their own processing goes."""


class Settings(BaseSettings):
    """Where the parts are, and what all services have in common."""

    model_config = SettingsConfigDict(env_prefix="WAYBILL_", frozen=True)

    kafka: str = Field(
        default="127.0.0.1:9092",
        description="Kafka bootstrap servers, comma-separated `host:port`.",
    )
    mongodb: str = Field(
        default="mongodb://127.0.0.1:27017", description="MongoDB connection string."
    )
    database: str = Field(default="waybill", description="Name of the MongoDB database.")
    blobs: str = Field(
        default=".waybill/blobs",
        description="Blob store: a directory, or `s3://bucket/prefix` (also `gs://`, `az://`, `memory://`).",
    )
    blobs_endpoint: str | None = Field(
        default=None, description="Address of an S3-compatible server, if it is not Amazon's."
    )
    blobs_fsync: bool = Field(
        default=True,
        description="Directory store only: force each blob to the disk before it counts as stored.",
    )
    topic_prefix: str = Field(
        default="", description="Put before every topic and consumer group, to share one Kafka."
    )
    replication: int = Field(
        default=1, ge=1, description="Replication factor of the topics when they are created."
    )
    demo: bool = Field(
        default=False,
        description="Accept and process `application/vnd.waybill.demo+json`, for trials and tests.",
    )
    host: str = Field(default="127.0.0.1", description="Address the service listens on for HTTP.")
    port: int = Field(
        default=0,
        ge=0,
        le=65535,
        description="Port the service listens on for HTTP; 0 takes a free one.",
    )
    shutdown_grace: float = Field(
        default=8.0, ge=0, description="Seconds a service may use to end its work after SIGTERM."
    )
    log_level: str = Field(default="INFO", description="DEBUG, INFO, WARNING or ERROR.")
    log_format: str = Field(
        default="text",
        pattern="^(text|json)$",
        description="`text` for people, `json` for machines.",
    )
