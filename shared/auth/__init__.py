"""Authentication: tokens, API keys and sealed records.

Imported by the HTTP side of the services.
"""
