"""User commands: cancel, retry, delete and share; also retention and dead letters.

A command is published to Kafka before it takes effect. Imports `live`, `store` and `projection`.
"""
