"""The state of a file as a pure fold of its events. No I/O, no clock.

Imported by every other package of the service; imports only `shared`.
"""
