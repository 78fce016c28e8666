"""Peers of the push benchmark: servers that send the same messages to every connection."""
