"""Task files that lm-eval reads, and the functions that they name."""
