"""Run the upload service: `python -m services.upload`."""

from services.upload.app import create_app
from services.upload.settings import UploadSettings
from shared.serving import serve
from shared.telemetry import configure_logging

if __name__ == "__main__":
    settings = UploadSettings()
    configure_logging(settings)
    serve(create_app(settings), settings)
