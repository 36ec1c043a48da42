"""Generate neural fields by writing their weights, token by token."""

__version__ = "0.1.0"
