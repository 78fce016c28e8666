"""Peers of the throughput benchmark: task queues on Redis, each configured to lose no task."""
