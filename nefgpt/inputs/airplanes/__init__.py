"""Airplanes made by rule."""
