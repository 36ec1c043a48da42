"""Signals to fields."""
