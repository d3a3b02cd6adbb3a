"""Finance tasks and how their answers are scored."""
