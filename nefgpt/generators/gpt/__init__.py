"""A transformer over weight codes."""
