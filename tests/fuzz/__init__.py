"""Requests that no well-behaved client sends: a generator, references, and a fuzz over sockets."""
