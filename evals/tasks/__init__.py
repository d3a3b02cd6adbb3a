"""Task files that lm-eval reads, and the functions they name."""
