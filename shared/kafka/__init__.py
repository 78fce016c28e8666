"""Kafka clients: connections, publishing, consuming, topics and dead letters.

The only package of `shared` that uses aiokafka.
"""
