"""Authentication: tokens, API keys, and the records that are sealed with the secret.

Imported by the HTTP side of the services.
"""
