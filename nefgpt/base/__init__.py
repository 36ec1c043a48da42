"""What knows nothing of fields: files, seeds, devices, compiled functions, training."""
