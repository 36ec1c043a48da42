"""Fields to new fields."""
