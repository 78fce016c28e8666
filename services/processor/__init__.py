"""Works on files in isolated worker processes and publishes what became of them."""
