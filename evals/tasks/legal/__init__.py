"""Legal tasks and their scoring."""
