"""Stage that compares the final model with the base and other models."""
