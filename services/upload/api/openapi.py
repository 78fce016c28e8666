"""What the API's description says of uploads: the answers, and examples of both kinds of body."""

from typing import Any, Literal

from pydantic import BaseModel, Field

EXAMPLE_ID = "019cd0f5-8c1e-7bd5-a8b1-6f1ed2c3a111"


class AcceptedFile(BaseModel):
    """A file that is stored and will be processed."""

    file_id: str = Field(examples=[EXAMPLE_ID])
    status: Literal["pending"] = "pending"
    name: str = Field(examples=["report.pdf"])
    size: int = Field(description="bytes", examples=[48213])
    content_type: str = Field(examples=["application/pdf"])
    sha256: str | None = Field(
        description="none of a direct upload that came without",
        examples=["9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"],
    )
    status_url: str = Field(examples=[f"/api/files/{EXAMPLE_ID}/process/status"])


class KnownFile(BaseModel):
    """An earlier file with the same content, of the same owner: nothing new was stored."""

    file_id: str = Field(examples=[EXAMPLE_ID])
    deduplicated: Literal[True]
    name: str = Field(description="as it was sent now")
    size: int = Field(description="bytes")
    content_type: str
    sha256: str
    status_url: str = Field(description="what became of it")


class RefusedFile(BaseModel):
    """A file of the request that is not acceptable; nothing of it is kept."""

    index: int = Field(description="its place among the files of the request, from 0")
    name: str
    type: str = Field(examples=["urn:waybill:problem:empty_file"])
    title: str
    status: int = Field(description="what the answer would be if it had come alone")
    code: str = Field(examples=["empty_file"])
    detail: str


class AcceptedBatch(BaseModel):
    """Several files that came in one request; earlier ones do not belong to the batch."""

    batch_id: str
    status: Literal["pending"] = "pending"
    files: list[AcceptedFile | KnownFile] = Field(description="those that are accepted")
    refused: list[RefusedFile] = Field(default=[], description="those that are not")


ACCEPTED_RESPONSE: dict[str, Any] = {
    "description": "Stored and recorded. With several files the answer is a batch.",
    "headers": {
        "Location": {
            "description": "Where to follow the file, or the batch.",
            "schema": {"type": "string"},
        },
        "Retry-After": {
            "description": "Seconds after which a first look is worth while.",
            "schema": {"type": "integer"},
        },
    },
}

KNOWN_RESPONSE: dict[str, Any] = {
    "description": "Each file is there already, and nothing new was stored.",
    "model": KnownFile | AcceptedBatch,
    "headers": ACCEPTED_RESPONSE["headers"],
}

REQUEST_BODY: dict[str, Any] = {
    "required": True,
    "description": "A form with the files in parts named `file`, or one file as the whole body.",
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
        "description": "Name of the file, for a raw body. `Content-Disposition` may carry it too.",
        "schema": {"type": "string"},
    },
    {
        "name": "deduplicate",
        "in": "query",
        "required": False,
        "description": "For a raw body; in a form it is a field. Give me the earlier file, if "
        "there is one with the same content.",
        "schema": {"type": "string", "enum": ["true", "false"]},
    },
    {
        "name": "allow_empty",
        "in": "query",
        "required": False,
        "description": "Accept files without content. In a form it may be a field as well.",
        "schema": {"type": "string", "enum": ["true", "false"]},
    },
    {
        "name": "atomic",
        "in": "query",
        "required": False,
        "description": "Accept all files of the request or none. In a form it may be a field.",
        "schema": {"type": "string", "enum": ["true", "false"]},
    },
    {
        "name": "Idempotency-Key",
        "in": "header",
        "required": False,
        "description": "Makes it safe to send the request again: for a day all requests with this "
        "key are one, and have one answer; a repeat has `Idempotent-Replayed: true` in its head. "
        "Other files or labels under it are refused (422).",
        "schema": {"type": "string", "minLength": 1, "maxLength": 255},
        "example": '"8e03978e-40d5-43e8-bc93-6894a57f9324"',
    },
]
