"""Run one processor: `python -m services.processor`."""

from services.processor.app import create_app
from services.processor.settings import ProcessorSettings
from shared.serving import serve
from shared.telemetry import configure_logging

if __name__ == "__main__":
    settings = ProcessorSettings()
    configure_logging(settings)
    serve(create_app(settings), settings)
