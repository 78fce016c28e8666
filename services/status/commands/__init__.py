"""What users ask for: cancel, retry, delete, share, retention and dead letters.

A command is published to Kafka before it takes effect. Imports `live`, `store` and `projection`.
"""
