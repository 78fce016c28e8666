"""What the page needs to know before it can start."""

from importlib.metadata import version

from fastapi import APIRouter
from pydantic import BaseModel

from services.status.api.dependencies import SettingsOf

router = APIRouter(prefix="/api", tags=["page"])


class Config(BaseModel):
    """Where to upload to, and what this installation is."""

    upload_url: str
    version: str
    demo: bool
    login: bool
    """Whether the page has to ask for a token."""


@router.get("/config")
async def read_config(settings: SettingsOf) -> Config:
    """The public settings of this installation."""
    return Config(
        upload_url=settings.upload_url,
        version=version("waybill"),
        demo=settings.demo,
        login=settings.auth == "jwt",
    )
