"""Run the upload service: `python -m services.upload`."""

import logging

from services.upload.app import create_app
from services.upload.http.large_body_protocol import LargeBodies
from services.upload.settings import UploadSettings
from shared.http.serving import serve
from shared.settings import from_environment
from shared.telemetry import configure_logging

if __name__ == "__main__":
    settings = from_environment(UploadSettings)
    configure_logging(settings)
    # During an outage, aiokafka logs ten times a second. `KafkaConnection` logs it once.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    serve(create_app(settings), settings, http=LargeBodies)
