"""Medical tasks and their scoring."""
