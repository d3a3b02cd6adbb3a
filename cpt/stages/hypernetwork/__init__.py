"""Hypernetwork stage: train a network that gives the model rows for the tokens of any tokenizer."""
