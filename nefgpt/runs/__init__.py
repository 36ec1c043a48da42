"""A trained run as a thing to use: sampled, encoded, decoded, continued, exported."""
