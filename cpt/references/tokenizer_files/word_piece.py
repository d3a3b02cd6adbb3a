"""WordPiece vocabularies (BERT's vocab.txt): one piece per line, its line number is its id."""

from __future__ import annotations

import re

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from cpt.errors import DataError
from cpt.references.tokenizer_files.fast_folder import FastTokenizer, conventional_roles

_NAME = re.compile(r"\[[A-Z]+\]")


def read(content: bytes, name: str) -> FastTokenizer:
    """The fast tokenizer of a vocab.txt; `name` is for messages.

    The file does not say whether text is lower-cased. It is, unless a piece has an upper-case letter.

    Raises:
        DataError: it is no WordPiece vocabulary.
    """
    pieces = content.decode("utf-8", errors="replace").splitlines()
    if "[UNK]" not in pieces or not any(piece.startswith("##") for piece in pieces):
        raise DataError(f"{name} is not a tokenizer of a known format", hint="Was it downloaded whole?")
    vocabulary = {piece: line for line, piece in enumerate(pieces)}
    special = [piece for piece in pieces if _NAME.fullmatch(piece)]
    cased = any(piece.lower() != piece for piece in pieces if not _is_name(piece))
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=not cased)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.add_special_tokens([AddedToken(piece, normalized=False, special=True) for piece in special])
    if {"[CLS]", "[SEP]"} <= vocabulary.keys():
        tokenizer.post_processor = processors.BertProcessing(
            ("[SEP]", vocabulary["[SEP]"]), ("[CLS]", vocabulary["[CLS]"])
        )
    return FastTokenizer(tokenizer, conventional_roles(special))


def _is_name(piece: str) -> bool:
    return piece.startswith("[") and piece.endswith("]")
