"""What a field may hold: sampled, measured, compared, decoded."""
