"""Resumable uploads (tus 1.0.0): parts in the blob store that become one file.

Imported by `api` and `app`; imports `intake` and `body`.
"""
