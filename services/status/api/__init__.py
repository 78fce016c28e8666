"""The HTTP and WebSocket endpoints of the status service."""
