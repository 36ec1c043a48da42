"""A finished run to figures and one page."""
