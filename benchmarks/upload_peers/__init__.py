"""What uploads are measured beside."""
