"""Webhooks: somebody's server is told of each file of theirs that ends."""
