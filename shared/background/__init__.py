"""Background loops: their declaration, their supervisor, and the clock probe.

Imported by all services.
"""
