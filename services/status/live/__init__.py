"""The push path: the tail of Kafka, the states of files in progress, and their subscribers.

Imported by `api`, `commands`, `monitoring` and `webhooks`; imports `store` and `projection`.
"""
