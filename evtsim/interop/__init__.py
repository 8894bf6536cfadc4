"""What other tools write and read, one module a format."""
