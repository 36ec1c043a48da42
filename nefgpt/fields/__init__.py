"""One field: its numbers, and what it computes."""
