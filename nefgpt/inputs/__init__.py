"""Which inputs there are, and how a file is read."""
