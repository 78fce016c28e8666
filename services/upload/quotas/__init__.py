"""Per-owner upload quotas, counted across all pods.

Imported by `intake` and `app`.
"""
