"""HTTP and WebSocket connections of all services, with strict parsing and bounded resources.

`serve` (shared/http/serving.py) and the services' own protocols build on this package. It does not
depend on any service. `limits.py` defines the limits; docs/limits.md lists them.
"""
