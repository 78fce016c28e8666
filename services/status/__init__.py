"""Projects the events into MongoDB, answers questions about files, and pushes every change."""
