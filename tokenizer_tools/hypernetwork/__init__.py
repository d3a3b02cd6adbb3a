"""Predict the embedding rows of any token from the rows of its pieces (zero-shot tokenizer transfer).

Source: Minixhofer, Ponti, Vulić, "Zero-Shot Tokenizer Transfer" (arXiv 2405.07883).
"""
