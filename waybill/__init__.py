"""What a user installs and types: the client library, the command line and the local stack."""
