"""Takes files in: streams them to the blob store, publishes `file.uploaded`, answers at once."""
