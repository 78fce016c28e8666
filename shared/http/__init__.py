"""The HTTP and WebSocket connections of all services: bounded, strict, and never ambiguous.

`serve` (shared/http/serving.py) and the services' own protocols build on this package. It knows no
service. The figures are in `limits.py`; docs/limits.md lists them.
"""
