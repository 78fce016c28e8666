"""The floor of the status benchmark: a handler that finds a document and returns it."""

from typing import Any

from fastapi import FastAPI, HTTPException
from motor.motor_asyncio import AsyncIOMotorClient

from shared.http.serving import serve
from shared.settings import Settings

settings = Settings()
client: AsyncIOMotorClient[dict[str, Any]] = AsyncIOMotorClient(settings.mongodb, tz_aware=True)
files = client[settings.database]["files"]
app = FastAPI()


@app.get("/api/files/{file_id}/process/status")
async def read_status(file_id: str) -> dict[str, Any]:
    """Return a document as FastAPI's and Motor's manuals show it."""
    document = await files.find_one({"_id": file_id})
    if document is None:
        raise HTTPException(404)
    return document


if __name__ == "__main__":
    serve(app, settings)
