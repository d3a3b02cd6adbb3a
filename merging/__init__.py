"""Merge models: align their vocabularies, then do arithmetic on their task vectors."""
