"""Vocabulary stage: change the tokenizer, and give new tokens their rows."""
