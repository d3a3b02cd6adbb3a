"""Finance tasks and their scoring."""
