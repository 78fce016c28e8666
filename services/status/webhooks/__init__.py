"""Webhooks: notify a user's server when one of the user's files reaches a terminal state."""
