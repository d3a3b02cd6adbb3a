"""Fit a tokenizer to a domain: measure it, extend it, and give new tokens their embeddings."""
