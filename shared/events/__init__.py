"""The event contract: events, their parts, topics, and how records are read.

Imported by everything that publishes or consumes; imports no other package of `shared`.
"""
