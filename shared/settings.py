"""Settings that all services share. Each field is the environment variable `WAYBILL_<NAME>`."""

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
"""The default port of Kafka."""

DEMO_TYPE = "application/vnd.waybill.demo+json"
"""The content type of demo files, whose content scripts how they are processed."""


class Settings(BaseSettings):
    """The settings of all services, such as the addresses of Kafka, MongoDB and the blob store."""

    model_config = SettingsConfigDict(
        env_prefix="WAYBILL_",
        frozen=True,
        # Some values are secret, and errors are logged.
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
        """Read arguments first, then the environment, then files in `WAYBILL_SECRETS`."""
        folder = os.environ.get("WAYBILL_SECRETS")
        files = SecretsSettingsSource(settings_cls, secrets_dir=folder)
        return init_settings, env_settings, files

    kafka: str = Field(
        default="127.0.0.1:9092",
        description="Kafka bootstrap servers, comma-separated `host:port`; IPv6 as `[::1]:9092`.",
    )
    kafka_tls: bool = Field(default=False, description="Connect to Kafka with TLS.")
    kafka_ca: str | None = Field(
        default=None,
        description="With TLS: file with the certificate authorities to trust. "
        "Default: the system's.",
    )
    kafka_certificate: str | None = Field(
        default=None,
        description="With TLS: file with a client certificate and its key, if Kafka requires one.",
    )
    kafka_username: str | None = Field(default=None, description="User name for Kafka (SASL).")
    kafka_password: SecretStr | None = Field(default=None, description="Password for Kafka (SASL).")
    kafka_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field(
        default="SCRAM-SHA-512", description="SASL mechanism for Kafka; `PLAIN` requires TLS."
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
        default=None, description="Endpoint of an S3-compatible server other than Amazon's."
    )
    blobs_fsync: bool = Field(
        default=True,
        description="Directory store only: flush each blob to disk before it counts as stored. "
        "Without it, all pods that share the directory must run on one machine.",
    )
    blobs_packed: bool = Field(
        default=True,
        description="Directory store only: store small uploads in shared files, which is faster.",
    )
    topic_prefix: str = Field(
        default="",
        description="Prefix of all topics and consumer groups, to share one Kafka cluster.",
    )
    replication: int = Field(
        default=1, ge=1, description="Replication factor of newly created topics."
    )
    demo: bool = Field(
        default=False,
        description="Accept and process `application/vnd.waybill.demo+json`, for demos and tests.",
    )
    host: str = Field(
        default="127.0.0.1", description="IPv4 or IPv6 address on which the service serves HTTP."
    )
    port: int = Field(
        default=0,
        ge=0,
        le=65535,
        description="Port on which the service serves HTTP; 0 selects a free port.",
    )
    shutdown_grace: float = Field(
        default=8.0, ge=0, description="Seconds for a graceful shutdown after SIGTERM."
    )
    log_level: str = Field(default="INFO", description="`DEBUG`, `INFO`, `WARNING` or `ERROR`.")
    log_format: str = Field(
        default="text",
        pattern="^(text|json)$",
        description="`text` for people, `json` for log collectors.",
    )

    chaos_kill_loop: str = Field(
        default="",
        description="For tests only: cancel background loops periodically, as comma-separated "
        "`name:seconds`; [docs/operations.md](docs/operations.md) lists the names.",
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
            raise ValueError(
                "Set both WAYBILL_KAFKA_USERNAME and WAYBILL_KAFKA_PASSWORD, or neither of them."
            )
        if self.kafka_username and self.kafka_mechanism == "PLAIN" and not self.kafka_tls:
            raise ValueError(
                "WAYBILL_KAFKA_MECHANISM=PLAIN would send the password in clear text; set "
                "WAYBILL_KAFKA_TLS."
            )
        if not self.kafka_tls and (self.kafka_ca or self.kafka_certificate):
            raise ValueError(
                "WAYBILL_KAFKA_CA and WAYBILL_KAFKA_CERTIFICATE require WAYBILL_KAFKA_TLS."
            )
        return self


MIN_SECRET = 32
"""Minimum bytes of the secret that signs tokens: the size of the hash (RFC 7518, 3.2)."""


class SealSettings(Settings):
    """The secrets of the installation, which processors do not have."""

    auth_secret: SecretStr | None = Field(
        default=None,
        description="With `jwt`, for development: the key of HS256 tokens, 32 bytes or more, "
        "instead of a JWKS. Anyone who holds this secret can impersonate any user.",
    )
    seal_secret: SecretStr | None = Field(
        default=None,
        description="Secret that seals API keys and webhooks in the blob store, 32 bytes or more; "
        "see [docs/security.md](docs/security.md). Default: `WAYBILL_AUTH_SECRET`, or no seals.",
    )

    @model_validator(mode="after")
    def _check_seal(self) -> Self:
        if self.seal_secret and len(self.seal_secret.get_secret_value().encode()) < MIN_SECRET:
            raise ValueError(
                f"WAYBILL_SEAL_SECRET has fewer than {MIN_SECRET} bytes; create one with "
                "`openssl rand -hex 32`."
            )
        return self


class AccessSettings(SealSettings):
    """Authentication settings of the upload and status services."""

    auth: Literal["none", "open", "jwt"] = Field(
        default="none",
        description="`jwt`: requests need a token. `none`: no authentication; any local user has "
        "full access, and only loopback addresses are allowed. `open`: no authentication on any "
        "address.",
    )
    auth_jwks_url: str | None = Field(
        default=None, description="With `jwt`: URL of the issuer's published keys (JWKS)."
    )
    auth_issuer: str | None = Field(
        default=None, description="With `jwt`: expected `iss` of tokens. Required with a JWKS."
    )
    auth_audience: str | None = Field(
        default=None, description="With `jwt`: expected `aud` of tokens. Required with a JWKS."
    )

    @model_validator(mode="after")
    def _check_access(self) -> Self:
        if self.auth == "none" and not is_loopback(self.host):
            raise ValueError(
                f"WAYBILL_HOST={self.host} is reachable from other machines, and WAYBILL_AUTH=none "
                "gives every client full access. Set WAYBILL_AUTH=jwt to require tokens. Set "
                "WAYBILL_AUTH=open if something else restricts access, such as a port that is "
                "published on the loopback interface only."
            )
        if self.auth == "jwt":
            self._check_keys()
        return self

    def _check_keys(self) -> None:
        if (self.auth_jwks_url is None) == (self.auth_secret is None):
            raise ValueError(
                "WAYBILL_AUTH=jwt requires either WAYBILL_AUTH_JWKS_URL or WAYBILL_AUTH_SECRET."
            )
        if self.auth_secret is not None:
            if len(self.auth_secret.get_secret_value().encode()) < MIN_SECRET:
                raise ValueError(f"WAYBILL_AUTH_SECRET has fewer than {MIN_SECRET} bytes.")
            return
        address = urlsplit(self.auth_jwks_url or "")
        if address.scheme != "https" and not is_loopback(address.hostname or ""):
            raise ValueError(
                "WAYBILL_AUTH_JWKS_URL must use https: anyone who can alter the response can "
                "impersonate any user."
            )
        if self.auth_issuer is None or self.auth_audience is None:
            # An issuer signs for many services: without these, any of its tokens would be valid.
            raise ValueError(
                "WAYBILL_AUTH_JWKS_URL requires WAYBILL_AUTH_ISSUER and WAYBILL_AUTH_AUDIENCE."
            )


S = TypeVar("S", bound=Settings)


def from_environment(settings: type[S]) -> S:
    """Read the settings of a service from the environment.

    Raises:
        SystemExit: a variable has an invalid value; the message names it.
    """
    try:
        return settings()
    except ValidationError as error:
        faults = (
            ": ".join((*(f"WAYBILL_{str(name).upper()}" for name in fault["loc"]), fault["msg"]))
            for fault in error.errors(include_input=False, include_url=False)
        )
        raise SystemExit("\n".join(faults)) from None
