"""Samples to numbers."""
