"""A finished run as one HTML page that holds everything it shows and loads nothing."""
