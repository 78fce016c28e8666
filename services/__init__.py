"""The three services; they talk to each other through Kafka and the blob store only."""
