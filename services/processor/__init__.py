"""Process files in isolated worker processes and publish the outcomes."""
