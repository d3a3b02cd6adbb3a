"""Tokenizers in their authors' formats, converted to a folder with a fast tokenizer (tokenizer.json).

A file is recognised by its content, not by its name: a SentencePiece model, byte-level BPE ranks (tiktoken),
Mistral's tekken, a WordPiece vocabulary, a tokenizer.json by itself. A folder may hold any of these, or
files that transformers knows how to convert.
"""

from cpt.references.tokenizer_files.convert import CONVERTER, convert

__all__ = ["CONVERTER", "convert"]
