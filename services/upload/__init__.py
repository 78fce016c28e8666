"""The upload service: streams files to the blob store and publishes `file.uploaded`."""
