"""Peers of the upload benchmark."""
