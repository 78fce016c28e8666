"""The contract between the services: events, topics, blob store, errors, settings, telemetry."""
