"""Queue statistics, lags, stuck files and expected waiting times.

Imported by `api` and `replay`; imports `live`, `store` and `projection`.
"""
