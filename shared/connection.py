"""How every client of Kafka connects: to which servers, over TLS or not, and as whom."""

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient
from faststream.kafka.security import parse_security
from faststream.security import BaseSecurity, SASLPlaintext, SASLScram256, SASLScram512

from shared.settings import Settings

_SASL = {
    "PLAIN": SASLPlaintext,
    "SCRAM-SHA-256": SASLScram256,
    "SCRAM-SHA-512": SASLScram512,
}


def security_of(settings: Settings) -> BaseSecurity | None:
    """What proves who is who, for FastStream; None where nothing does.

    Raises:
        OSError: a file with a certificate or a key cannot be read.
    """
    context = _context(settings) if settings.kafka_tls else None
    if settings.kafka_username is not None and settings.kafka_password is not None:
        return _SASL[settings.kafka_mechanism](
            settings.kafka_username,
            settings.kafka_password.get_secret_value(),
            ssl_context=context,
            use_ssl=settings.kafka_tls,
        )
    return BaseSecurity(ssl_context=context, use_ssl=True) if context else None


def _context(settings: Settings) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=settings.kafka_ca)
    if settings.kafka_certificate is not None:
        context.load_cert_chain(settings.kafka_certificate)
    return context


def kafka_options(settings: Settings) -> dict[str, Any]:
    """The same for a client of aiokafka, with the servers.

    Raises:
        OSError: a file with a certificate or a key cannot be read.
    """
    return {
        "bootstrap_servers": settings.kafka.split(","),
        **parse_security(security_of(settings)),
    }


@asynccontextmanager
async def admin_client(settings: Settings) -> AsyncIterator[AIOKafkaAdminClient]:
    """A connected admin client."""
    admin = AIOKafkaAdminClient(**kafka_options(settings))
    await admin.start()
    try:
        yield admin
    finally:
        await admin.close()
