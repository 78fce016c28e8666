"""The AsyncAPI 3.0 document of the WebSocket protocol, generated from the message models."""

from importlib.metadata import version
from typing import Any, get_args

from fastapi import APIRouter
from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from services.status.api.messages import (
    Bye,
    CloseCode,
    Fault,
    Heartbeat,
    Reset,
    StatusMessage,
    Subscribe,
    Subscribed,
    Withdrawn,
)
from services.status.api.tickets import TICKET

router = APIRouter(tags=["live"])

FROM_CLIENTS: tuple[type[BaseModel], ...] = (Subscribe,)
TO_CLIENTS: tuple[type[BaseModel], ...] = (
    Subscribed,
    Reset,
    StatusMessage,
    Withdrawn,
    Heartbeat,
    Fault,
    Bye,
)

_SCHEMAS = "#/components/schemas/{model}"
_QUERY = {
    "type": "object",
    "properties": {
        TICKET: {
            "type": "string",
            "description": "From `POST /api/tickets`, in place of an `Authorization` header.",
        }
    },
}
_CHANNEL = {"$ref": "#/channels/live"}


@router.get("/asyncapi.json")
async def asyncapi() -> dict[str, Any]:
    """Describe the messages of `WS /api/ws`, for readers and client generators."""
    return document()


def document() -> dict[str, Any]:
    """Return the AsyncAPI document as JSON."""
    models: list[tuple[type[BaseModel], JsonSchemaMode]] = [
        *((model, "validation") for model in FROM_CLIENTS),
        *((model, "serialization") for model in TO_CLIENTS),
    ]
    _, schemas = models_json_schema(models, ref_template=_SCHEMAS)
    names = [model.__name__ for model, _ in models]
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Waybill, live",
            "version": version("waybill"),
            "description": "Follow many files on one connection. The messages are the same over"
            " Server-Sent Events: see docs/stream.md.",
        },
        "defaultContentType": "application/json",
        "channels": {
            "live": {
                "address": "/api/ws",
                "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in names},
                "bindings": {"ws": {"method": "GET", "query": _QUERY}},
                "x-close-codes": {
                    str(code.value): {"why": code.meaning, "reconnect": code.reconnects}
                    for code in CloseCode
                },
            }
        },
        "operations": {
            "follow": _operation("receive", FROM_CLIENTS, "The client subscribes to files."),
            "tell": _operation("send", TO_CLIENTS, "The service sends updates to the client."),
        },
        "components": {
            "messages": {
                model.__name__: {
                    "name": get_args(model.model_fields["type"].annotation)[0],
                    "summary": (model.__doc__ or "").strip(),
                    "payload": {"$ref": _SCHEMAS.format(model=model.__name__)},
                }
                for model, _ in models
            },
            "schemas": schemas["$defs"],
        },
    }


def _operation(action: str, models: tuple[type[BaseModel], ...], summary: str) -> dict[str, Any]:
    return {
        "action": action,
        "summary": summary,
        "channel": _CHANNEL,
        "messages": [{"$ref": f"#/channels/live/messages/{model.__name__}"} for model in models],
    }
