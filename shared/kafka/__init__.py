"""Kafka clients: connect, publish, consume, read topics, dead letters.

The only package of `shared` that knows aiokafka.
"""
