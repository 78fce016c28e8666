"""The floor of the upload benchmark: a handler that accepts a file and discards it."""

from fastapi import FastAPI, UploadFile

from shared.http.serving import serve
from shared.settings import Settings

app = FastAPI()


@app.post("/api/files/upload", status_code=202)
async def upload(file: UploadFile) -> dict[str, int | None]:
    """Accept a file as FastAPI's manual shows it."""
    return {"size": file.size}


if __name__ == "__main__":
    serve(app, Settings())
