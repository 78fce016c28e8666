"""Code that all services share: events, topics, the blob store, errors, settings, telemetry."""
