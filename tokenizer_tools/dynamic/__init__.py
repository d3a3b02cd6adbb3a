"""Merge a text's most frequent pairs of tokens, and predict the rows of these (dynamic tokenization).

Source: Feher, Vulić, Minixhofer, "Retrofitting Large Language Models with Dynamic Tokenization"
(arXiv 2411.18553).
"""
