"""Processing steps: plain functions `(document, context) -> document` that run in a worker."""
