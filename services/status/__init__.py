"""The status service: projects events into MongoDB, serves the API and pushes every change."""
