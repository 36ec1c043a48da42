"""Diffusion over fields."""
