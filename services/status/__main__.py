"""Run one status service: `python -m services.status`."""

from services.status.app import create_app
from services.status.live.streaming_protocols import HttpProtocol, WebSocketProtocol
from services.status.settings import StatusSettings
from shared.http.serving import serve
from shared.settings import from_environment
from shared.telemetry import configure_logging

if __name__ == "__main__":
    settings = from_environment(StatusSettings)
    configure_logging(settings)
    app = create_app(settings)
    serve(
        app,
        settings,
        on_signal=app.state.hub.close,
        http=HttpProtocol,
        ws=WebSocketProtocol,
    )
