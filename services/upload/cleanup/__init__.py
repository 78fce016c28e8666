"""Removal of interrupted uploads and orphaned files.

Imported by `app`, and by the packages whose leftovers it removes.
"""
