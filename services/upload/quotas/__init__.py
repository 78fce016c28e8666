"""What each owner may upload, counted across pods.

Imported by `intake` and `app`.
"""
