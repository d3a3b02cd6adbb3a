"""Probes: measurements of a model that are repeated during training, one module each."""
