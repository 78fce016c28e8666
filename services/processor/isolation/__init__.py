"""Isolate worker processes from the network, other processes, files and the pod's secrets.

Uploaded files are untrusted and may take over the process that parses them. `rung` defines the
levels, `cell` combines the layers, and each other module implements one layer. Only the pod and its
workers import this package.
"""
