"""Measure task vectors: length by part of the model, angles between vectors, conflicts of sign."""
