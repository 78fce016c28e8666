"""A Kafka and a mongod with TLS and authentication, using temporary certificates."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlencode

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from pymongo import MongoClient

from waybill.local.kafka import JVM, PROPERTIES, _cluster_id, _runtime, wait_for_kafka
from waybill.local.mongodb import start_mongodb, wait_for_mongodb
from waybill.local.ports import HOST, free_port
from waybill.local.process import Child

USER, PASSWORD = "waybill", "not-a-secret"

SECURED = """
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,CLIENTS:SASL_SSL
inter.broker.listener.name=PLAINTEXT
sasl.enabled.mechanisms=SCRAM-SHA-512,PLAIN
listener.name.clients.scram-sha-512.sasl.jaas.config=\
org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.clients.plain.sasl.jaas.config=\
org.apache.kafka.common.security.plain.PlainLoginModule required user_{user}="{password}";
listener.name.clients.ssl.client.auth=required
ssl.keystore.type=PEM
ssl.keystore.location={server}
ssl.truststore.type=PEM
ssl.truststore.location={ca}
"""


@dataclass(frozen=True)
class Secured:
    """Addresses and credentials."""

    kafka: str
    mongodb: str
    ca: Path
    certificate: Path


@contextmanager
def secured_parts(folder: Path) -> Iterator[Secured]:
    """Run both for the block."""
    ca, server, client = _certificates(folder)
    children: list[Child] = []
    try:
        kafka, address = _start_kafka(folder, ca, server)
        children.append(kafka)
        mongodb, uri = _start_mongodb(folder, ca, server)
        children.append(mongodb)
        wait_for_mongodb(mongodb, uri)
        query = {"tls": "true", "tlsCAFile": ca, "tlsCertificateKeyFile": client}
        with MongoClient[dict[str, object]](f"{uri}/?{urlencode(query)}") as nobody:
            roles = ["root"]  # The first client may create a user.
            nobody.admin.command("createUser", USER, pwd=PASSWORD, roles=roles)
        wait_for_kafka(kafka, address)
        known = uri.replace("://", f"://{USER}:{PASSWORD}@")
        yield Secured(address, f"{known}/?{urlencode(query)}", ca, client)
    finally:
        for child in children:
            child.terminate()
            child.finish(0)


def _start_mongodb(folder: Path, ca: Path, server: Path) -> tuple[Child, str]:
    options = ["--auth", "--tlsMode", "requireTLS", "--tlsCAFile", str(ca)]
    options += ["--tlsCertificateKeyFile", str(server)]
    return start_mongodb(folder / "mongodb", folder / "logs", *options)


def _start_kafka(folder: Path, ca: Path, server: Path) -> tuple[Child, str]:
    java, classpath = _runtime()
    data = folder / "kafka"
    port = free_port()
    text = PROPERTIES.format(host=HOST, port=free_port(), controller_port=free_port(), data=data)
    clients = f",CLIENTS://{HOST}:{port}\n"
    lines = [
        line.rstrip("\n") + (clients if "listeners=PLAINTEXT" in line else "\n")
        for line in text.splitlines()
    ]
    properties = folder / "server.properties"
    properties.write_text(
        "".join(lines) + SECURED.format(user=USER, password=PASSWORD, server=server, ca=ca)
    )
    scram = f"SCRAM-SHA-512=[name={USER},password={PASSWORD}]"
    command = [java, "-cp", classpath, "kafka.tools.StorageTool", "format"]
    command += ["-t", _cluster_id(), "-c", str(properties), "--add-scram", scram]
    subprocess.run(command, check=True, capture_output=True)
    child = Child(
        "kafka",
        [java, *JVM, "-cp", classpath, "kafka.Kafka", str(properties)],
        environment=os.environ,
        log=folder / "logs" / "kafka.log",
    )
    return child, f"{HOST}:{port}"


def _certificates(folder: Path) -> tuple[Path, Path, Path]:
    """Create a CA certificate, and a server's and a client's certificate with their keys."""
    authority = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "an authority of tests")])
    constraints = x509.BasicConstraints(ca=True, path_length=None)
    signed = _certificate(name, authority).add_extension(constraints, critical=True)
    files = {"ca": signed.issuer_name(name).sign(authority, hashes.SHA256()).public_bytes(PEM)}
    for who in ("server", "client"):
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, who)])
        address = x509.SubjectAlternativeName([x509.IPAddress(ip_address(HOST))])
        request = _certificate(subject, key).add_extension(address, critical=False)
        certificate = request.issuer_name(name).sign(authority, hashes.SHA256())
        private = key.private_bytes(PEM, PrivateFormat.PKCS8, NoEncryption())
        files[who] = private + certificate.public_bytes(PEM)
    paths = {who: folder / f"{who}.pem" for who in files}
    for who, path in paths.items():
        path.write_bytes(files[who])
    return paths["ca"], paths["server"], paths["client"]


PEM = Encoding.PEM


def _certificate(subject: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
    )
