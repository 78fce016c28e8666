"""Admission: rules, idempotency, storage, and the event that records a file.

Imported by `api`, `resumable` and `direct_uploads`; imports `body` and `quotas`.
"""
