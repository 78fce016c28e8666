"""The local stack: Kafka, MongoDB and the services as processes of one machine, in one folder."""
