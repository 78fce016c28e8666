"""What the page may load, and whom it may talk to, is written in its headers."""

import httpx
import pytest
from fastapi import FastAPI

from services.status import dashboard


@pytest.mark.parametrize(
    ("upload_url", "allowed"),
    [
        ("http://127.0.0.1:8001", "connect-src 'self' http://127.0.0.1:8001;"),
        ("https://files.example/intake", "connect-src 'self' https://files.example;"),
        ("", "connect-src 'self' ;"),
    ],
)
async def test_the_page_talks_to_its_own_origin_and_that_of_the_uploads(
    upload_url: str, allowed: str
) -> None:
    app = FastAPI()
    dashboard.mount(app, upload_url)
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://page.example") as client:
        page = await client.get("/")
        script = await client.get("/static/app.js")
    policy = page.headers["Content-Security-Policy"]
    assert allowed in policy
    assert policy.startswith("default-src 'self';")
    assert "unsafe" not in policy
    assert script.headers["Content-Type"].startswith("text/javascript")
    assert script.headers["X-Content-Type-Options"] == "nosniff"
