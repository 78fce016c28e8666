"""The Python clients, the command line and the local stack."""

from waybill.addresses import Addresses
from waybill.async_client import AsyncClient
from waybill.client import Client
from waybill.errors import NoAnswerError, RefusedError

__all__ = ["Addresses", "AsyncClient", "Client", "NoAnswerError", "RefusedError"]
