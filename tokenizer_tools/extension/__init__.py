"""Extend a tokenizer by tokens learned on text: merges for BPE, pieces for Unigram and WordPiece."""

from tokenizer_tools.extension.extend import Extension, check_extendable, extend_tokenizer, why_not

__all__ = ["Extension", "check_extendable", "extend_tokenizer", "why_not"]
