"""The local stack: Kafka, MongoDB and the services on one machine, with one data folder."""
