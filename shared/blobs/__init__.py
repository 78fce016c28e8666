"""The blob store: a directory or an object store, with durable and atomic writes.

Imported by all services.
"""
