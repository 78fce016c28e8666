"""The HTTP endpoints of the upload service.

Imported by `app` only.
"""
