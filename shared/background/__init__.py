"""Background loops: declarations, the supervisor and the clock probe.

Imported by all services.
"""
