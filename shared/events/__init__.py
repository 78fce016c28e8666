"""The event contract: events, their data, topics, and the parsing of records.

Imported by all code that publishes or consumes; imports no other package of `shared`.
"""
