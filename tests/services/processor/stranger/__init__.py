"""A plugin that attacks its pod in every known way, and the environments to run it in."""
