"""The status of a file as a pure fold of its events: no I/O, no clock.

Imported by every other package of the service; imports only `shared`.
"""
