"""OpenAPI models, responses and examples of the upload endpoints."""

from typing import Any, Literal

from pydantic import BaseModel, Field

EXAMPLE_ID = "019cd0f5-8c1e-7bd5-a8b1-6f1ed2c3a111"


class AcceptedFile(BaseModel):
    """A file that is stored and queued for processing."""

    file_id: str = Field(examples=[EXAMPLE_ID])
    status: Literal["pending"] = "pending"
    name: str = Field(examples=["report.pdf"])
    size: int = Field(description="bytes", examples=[48213])
    content_type: str = Field(examples=["application/pdf"])
    sha256: str | None = Field(
        description="null for a direct upload that was created without a hash",
        examples=["9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"],
    )
    status_url: str = Field(examples=[f"/api/files/{EXAMPLE_ID}/process/status"])


class KnownFile(BaseModel):
    """An earlier file of the same owner with the same content. Nothing new was stored."""

    file_id: str = Field(examples=[EXAMPLE_ID])
    deduplicated: Literal[True]
    name: str = Field(description="name in this request")
    size: int = Field(description="bytes")
    content_type: str
    sha256: str
    status_url: str = Field(description="status of the earlier file")


class RefusedFile(BaseModel):
    """A rejected file of the request. Nothing of it is stored."""

    index: int = Field(description="position among the files of the request, from 0")
    name: str
    type: str = Field(examples=["urn:waybill:problem:empty_file"])
    title: str
    status: int = Field(description="HTTP status that a request with this file alone would return")
    code: str = Field(examples=["empty_file"])
    detail: str


class AcceptedBatch(BaseModel):
    """The files of one request. Deduplicated files do not belong to the batch."""

    batch_id: str
    status: Literal["pending"] = "pending"
    files: list[AcceptedFile | KnownFile] = Field(description="accepted files")
    refused: list[RefusedFile] = Field(default=[], description="rejected files")


ACCEPTED_RESPONSE: dict[str, Any] = {
    "description": "Every file is stored and recorded. For several files the answer is a batch.",
    "headers": {
        "Location": {
            "description": "URL of the file's status, or of the batch.",
            "schema": {"type": "string"},
        },
        "Retry-After": {
            "description": "Seconds to wait before the first status request.",
            "schema": {"type": "integer"},
        },
    },
}

KNOWN_RESPONSE: dict[str, Any] = {
    "description": "Every file already exists; nothing new was stored.",
    "model": KnownFile | AcceptedBatch,
    "headers": ACCEPTED_RESPONSE["headers"],
}

REQUEST_BODY: dict[str, Any] = {
    "required": True,
    "description": "A form with a part named `file` for each file, or one file as the raw body.",
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": ["file"],
                "properties": {
                    "file": {"type": "array", "items": {"type": "string", "format": "binary"}},
                    "label.project": {"type": "string", "description": "A label, key `project`."},
                    "allow_empty": {"type": "string", "enum": ["true", "false"]},
                    "atomic": {"type": "string", "enum": ["true", "false"]},
                },
            },
            "examples": {
                "form": {
                    "summary": "curl -F file=@report.pdf -F label.project=apollo ...",
                    "value": {"file": ["report.pdf"], "label.project": "apollo"},
                }
            },
        },
        "application/octet-stream": {
            "schema": {"type": "string", "format": "binary"},
            "examples": {
                "raw": {
                    "summary": "curl --data-binary @r.pdf '...?name=r.pdf&label.project=apollo'",
                    "value": "the bytes of the file",
                }
            },
        },
    },
}

PARAMETERS: list[dict[str, Any]] = [
    {
        "name": "name",
        "in": "query",
        "required": False,
        "description": "Name of a file in a raw body. `Content-Disposition` can carry it instead.",
        "schema": {"type": "string"},
    },
    {
        "name": "deduplicate",
        "in": "query",
        "required": False,
        "description": "Return the earlier file if one has the same content. Use the query "
        "parameter for a raw body, and the form field of this name for a form.",
        "schema": {"type": "string", "enum": ["true", "false"]},
    },
    {
        "name": "allow_empty",
        "in": "query",
        "required": False,
        "description": "Accept files without content. A form can send it as a field.",
        "schema": {"type": "string", "enum": ["true", "false"]},
    },
    {
        "name": "atomic",
        "in": "query",
        "required": False,
        "description": "Accept all files of the request or none. A form can send it as a field.",
        "schema": {"type": "string", "enum": ["true", "false"]},
    },
    {
        "name": "Idempotency-Key",
        "in": "header",
        "required": False,
        "description": "Makes the request safe to retry. For one day, all requests with this key "
        "count as one and get the same answer; a repeat carries `Idempotent-Replayed: true`. "
        "Another request with the same key is rejected (422).",
        "schema": {"type": "string", "minLength": 1, "maxLength": 255},
        "example": '"8e03978e-40d5-43e8-bc93-6894a57f9324"',
    },
]
