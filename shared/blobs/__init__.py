"""The blob store: a directory or an object store, and safe ways to write to them.

Imported by all services.
"""
