"""Settings that every service shares: each field is the environment variable `WAYBILL_<NAME>`."""

import os
from typing import Literal, Self, TypeVar
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SecretsSettingsSource,
    SettingsConfigDict,
)

from shared.addresses import bare_host, is_loopback, split_address

KAFKA_PORT = 9092
"""Where Kafka listens if nothing else is said."""

DEMO_TYPE = "application/vnd.waybill.demo+json"
"""The content type of files that say how their own processing goes."""


class Settings(BaseSettings):
    """Where the parts are, and what all services have in common."""

    model_config = SettingsConfigDict(
        env_prefix="WAYBILL_",
        frozen=True,
        # Some values are secret, and an error goes to the log.
        hide_input_in_errors=True,
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """What is given, else the environment, else a file in the folder `WAYBILL_SECRETS`."""
        folder = os.environ.get("WAYBILL_SECRETS")
        files = SecretsSettingsSource(settings_cls, secrets_dir=folder)
        return init_settings, env_settings, files

    kafka: str = Field(
        default="127.0.0.1:9092",
        description="Kafka bootstrap servers, comma-separated `host:port`; IPv6 as `[::1]:9092`.",
    )
    kafka_tls: bool = Field(default=False, description="Speak TLS with Kafka.")
    kafka_ca: str | None = Field(
        default=None,
        description="With TLS: file with the authorities that Kafka is trusted by. "
        "Default: the system's.",
    )
    kafka_certificate: str | None = Field(
        default=None,
        description="With TLS: file with a certificate and its key, if Kafka asks for one.",
    )
    kafka_username: str | None = Field(default=None, description="Who we are to Kafka (SASL).")
    kafka_password: SecretStr | None = Field(default=None, description="The password of that user.")
    kafka_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field(
        default="SCRAM-SHA-512", description="How the password is proved; `PLAIN` with TLS only."
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
        description="Directory store only: force each blob to the disk before it counts as stored. "
        "Without it, a directory is for the pods of one machine.",
    )
    blobs_packed: bool = Field(
        default=True,
        description="Directory store only: let small uploads share files, which is faster.",
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
    host: str = Field(
        default="127.0.0.1", description="Address the service listens on for HTTP, IPv4 or IPv6."
    )
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

    chaos_kill_loop: str = Field(
        default="",
        description="For trials only: cancel background loops again and again, as "
        "`name:seconds`, comma-separated; [docs/operations.md](docs/operations.md) has the names.",
    )

    @field_validator("host")
    @classmethod
    def _without_brackets(cls, host: str) -> str:
        return bare_host(host)

    @field_validator("kafka")
    @classmethod
    def _addresses(cls, kafka: str) -> str:
        for server in kafka.split(","):
            split_address(server, default_port=KAFKA_PORT)  # Raises ValueError.
        return kafka

    @model_validator(mode="after")
    def _check_kafka(self) -> Self:
        if (self.kafka_username is None) != (self.kafka_password is None):
            raise ValueError("WAYBILL_KAFKA_USERNAME and WAYBILL_KAFKA_PASSWORD go together.")
        if self.kafka_username and self.kafka_mechanism == "PLAIN" and not self.kafka_tls:
            raise ValueError("WAYBILL_KAFKA_MECHANISM=PLAIN tells the password without TLS.")
        if not self.kafka_tls and (self.kafka_ca or self.kafka_certificate):
            raise ValueError(
                "WAYBILL_KAFKA_CA and WAYBILL_KAFKA_CERTIFICATE need WAYBILL_KAFKA_TLS."
            )
        return self


MIN_SECRET = 32
"""Bytes of the secret that tokens are signed with: as many as the hash has (RFC 7518, 3.2)."""


class SealSettings(Settings):
    """The secret of the installation, which no processor has."""

    auth_secret: SecretStr | None = Field(
        default=None,
        description="With `jwt`, for development: the key of HS256 tokens, 32 bytes or more, in "
        "place of a JWKS. Who has it can be anybody.",
    )
    seal_secret: SecretStr | None = Field(
        default=None,
        description="Seals API keys and webhooks in the blob store, 32 bytes or more; see "
        "[docs/security.md](docs/security.md). Default: `WAYBILL_AUTH_SECRET`, or no seals.",
    )

    @model_validator(mode="after")
    def _check_seal(self) -> Self:
        if self.seal_secret and len(self.seal_secret.get_secret_value().encode()) < MIN_SECRET:
            raise ValueError(
                f"WAYBILL_SEAL_SECRET has less than {MIN_SECRET} bytes; make one by "
                "`openssl rand -hex 32`."
            )
        return self


class AccessSettings(SealSettings):
    """Who may use a service that tells of files, or takes them."""

    auth: Literal["none", "open", "jwt"] = Field(
        default="none",
        description="`jwt`: who has a token. `none`: everybody on this machine, the loopback alone "
        "being listened on. `open`: everybody who reaches the service, wherever it listens.",
    )
    auth_jwks_url: str | None = Field(
        default=None, description="With `jwt`: where the issuer publishes its keys (JWKS)."
    )
    auth_issuer: str | None = Field(
        default=None, description="With `jwt`: the `iss` of tokens. Required with a JWKS."
    )
    auth_audience: str | None = Field(
        default=None, description="With `jwt`: the `aud` of tokens. Required with a JWKS."
    )

    @model_validator(mode="after")
    def _check_access(self) -> Self:
        if self.auth == "none" and not is_loopback(self.host):
            raise ValueError(
                f"WAYBILL_HOST={self.host} listens beyond this machine, and WAYBILL_AUTH=none lets "
                "everybody see and do everything. Ask for tokens by WAYBILL_AUTH=jwt, or say "
                "WAYBILL_AUTH=open if something else keeps strangers out, such as a port that is "
                "published on the loopback only."
            )
        if self.auth == "jwt":
            self._check_keys()
        return self

    def _check_keys(self) -> None:
        if (self.auth_jwks_url is None) == (self.auth_secret is None):
            raise ValueError(
                "WAYBILL_AUTH=jwt needs one of WAYBILL_AUTH_JWKS_URL and WAYBILL_AUTH_SECRET."
            )
        if self.auth_secret is not None:
            if len(self.auth_secret.get_secret_value().encode()) < MIN_SECRET:
                raise ValueError(f"WAYBILL_AUTH_SECRET has less than {MIN_SECRET} bytes.")
            return
        address = urlsplit(self.auth_jwks_url or "")
        if address.scheme != "https" and not is_loopback(address.hostname or ""):
            raise ValueError("WAYBILL_AUTH_JWKS_URL must be https: who can change it is anybody.")
        if self.auth_issuer is None or self.auth_audience is None:
            # An issuer signs for many services: without these, any of its tokens would do.
            raise ValueError(
                "WAYBILL_AUTH_JWKS_URL needs WAYBILL_AUTH_ISSUER and WAYBILL_AUTH_AUDIENCE."
            )


S = TypeVar("S", bound=Settings)


def from_environment(settings: type[S]) -> S:
    """The settings of the service that is started.

    Raises:
        SystemExit: the environment has a value that cannot be used; the message says which.
    """
    try:
        return settings()
    except ValidationError as error:
        faults = (
            ": ".join((*(f"WAYBILL_{str(name).upper()}" for name in fault["loc"]), fault["msg"]))
            for fault in error.errors(include_input=False, include_url=False)
        )
        raise SystemExit("\n".join(faults)) from None
