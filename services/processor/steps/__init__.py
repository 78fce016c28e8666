"""What is done with a file: plain functions `(document, context) -> document`, run in a worker."""
