"""Configuration for the page."""

from importlib.metadata import version

from fastapi import APIRouter
from pydantic import BaseModel

from services.status.api.dependencies import SettingsOf

router = APIRouter(prefix="/api", tags=["page"])


class Config(BaseModel):
    """The upload service's address and the features of this installation."""

    upload_url: str
    version: str
    demo: bool
    login: bool
    """True if the page must ask for a token."""


@router.get("/config")
async def read_config(settings: SettingsOf) -> Config:
    """Return the public settings of this installation."""
    return Config(
        upload_url=settings.upload_url,
        version=version("waybill"),
        demo=settings.demo,
        login=settings.auth == "jwt",
    )
