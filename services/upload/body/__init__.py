"""Request bodies as streams of files: raw, multipart, names, labels and encodings.

Imported by `api`, `intake` and `resumable`; imports none of them.
"""
