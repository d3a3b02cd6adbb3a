"""Legal."""
