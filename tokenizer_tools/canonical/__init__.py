"""Know which token sequences a BPE tokenizer makes: those that are the beginning of some text's tokens.

A model gives probability to other sequences too, which no text becomes. Exact probabilities of bytes
(`evals.exact_bytes`) need to know the difference at every token, for the whole vocabulary.
"""
