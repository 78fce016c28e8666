"""Rebuild MongoDB from the log, and compare the two.

Used by `waybill replay` and, for single files, by the auditor. Imported by `app` and `api` only.
"""
