"""Read SentencePiece models (BPE and Unigram) as fast tokenizers.

Source: SentencePiece's sentencepiece_model.proto and its normalizer. Its changes of a text before the
search for pieces (a space in front, spaces collapsed, its character map) become the fast tokenizer's
normalizer.

Scores of a BPE model's pieces order its merges: a merge is any two pieces whose concatenation is a piece.

Known differences of the fast Unigram: of segmentations with equal scores it may take another; the text
"<s>" reads as that token; a character map that keeps white space makes one space, not two, of "\\r\\n".
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Sequence
from importlib import import_module
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

from cpt.errors import DataError
from cpt.references.fast_tokenizer import FastTokenizer, framed

SPACE = "▁"
_UNIGRAM, _BPE = 1, 2
_NORMAL, _UNKNOWN, _CONTROL, _USER_DEFINED = 1, 2, 3, 4


def read_sentence_piece(content: bytes, name: str) -> FastTokenizer:
    """Read a SentencePiece model.

    A text begins with the model's begin token. Without one, as in T5, it ends with its end token.

    Args:
        content: Content of the file.
        name: Name of the file, for messages.

    Raises:
        DataError: The file is no such model, or of a kind without a fast counterpart.
    """
    proto = _parse(content, name)
    if proto.trainer_spec.treat_whitespace_as_suffix:
        raise DataError(f"{name} marks the ends of words, not their starts: no fast tokenizer does")
    tokenizer = Tokenizer(_model(proto, name))
    tokenizer.normalizer = _normalizer(proto.normalizer_spec)
    if splits := list(_splits(proto)):
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(splits)
    tokenizer.decoder = _decoder(proto)
    special = (piece.piece for piece in proto.pieces if piece.type in (_CONTROL, _UNKNOWN))
    tokenizer.add_special_tokens([AddedToken(piece, normalized=False, special=True) for piece in special])
    roles = _roles(proto)
    framed(tokenizer, roles.get("bos"), None if "bos" in roles else roles.get("eos"))
    return FastTokenizer(tokenizer, roles)


def _parse(content: bytes, name: str) -> Any:
    proto = import_module("sentencepiece.sentencepiece_model_pb2").ModelProto()
    with contextlib.suppress(Exception):  # protobuf's errors differ by implementation; then no pieces
        proto.ParseFromString(content)
    if not proto.pieces:
        raise DataError(f"{name} is not a tokenizer of a known format", hint="Was it downloaded whole?")
    return proto


def _model(proto: Any, name: str) -> models.Model:
    unknown = proto.trainer_spec.unk_id
    byte_fallback = proto.trainer_spec.byte_fallback
    if proto.trainer_spec.model_type == _UNIGRAM:
        pieces = [(piece.piece, piece.score) for piece in proto.pieces]
        return models.Unigram(pieces, unk_id=unknown, byte_fallback=byte_fallback)
    if proto.trainer_spec.model_type == _BPE:
        return models.BPE(
            {piece.piece: token_id for token_id, piece in enumerate(proto.pieces)},
            _merges({piece.piece: piece.score for piece in proto.pieces if piece.type == _NORMAL}),
            unk_token=proto.pieces[unknown].piece,
            fuse_unk=True,
            byte_fallback=byte_fallback,
            ignore_merges=any(_user_defined(proto)),
        )
    raise DataError(f"{name} is a SentencePiece model of words or characters, not BPE or Unigram")


def _merges(scores: dict[str, float]) -> list[tuple[str, str]]:
    """Return every pair of pieces that makes a piece, best score first."""
    ranked = [
        (-score, -at, piece)
        for piece, score in scores.items()
        for at in range(1, len(piece))
        if piece[:at] in scores and piece[at:] in scores
    ]
    return [(piece[:-at], piece[-at:]) for _, at, piece in sorted(ranked)]


def _user_defined(proto: Any) -> Iterator[str]:
    return (piece.piece for piece in proto.pieces if piece.type == _USER_DEFINED)


def _normalizer(spec: Any) -> normalizers.Normalizer:
    steps: list[normalizers.Normalizer] = []
    if spec.precompiled_charsmap:
        steps.append(normalizers.Precompiled(spec.precompiled_charsmap))
    if spec.remove_extra_whitespaces:
        steps += [normalizers.Strip(), normalizers.Replace(Regex(" {2,}"), " ")]
    if spec.add_dummy_prefix:
        steps.append(normalizers.Prepend(SPACE))
    return normalizers.Sequence([*steps, normalizers.Replace(" ", SPACE)])


def _splits(proto: Any) -> Iterator[pre_tokenizers.PreTokenizer]:
    """Yield splits: user-defined pieces stand alone, the longest first; words too if no piece spans two."""
    if pieces := sorted(_user_defined(proto), key=len, reverse=True):
        yield pre_tokenizers.Split(Regex("|".join(map(re.escape, pieces))), "isolated")
    if not any(SPACE in piece.piece[1:] for piece in proto.pieces):
        yield pre_tokenizers.Metaspace(SPACE, prepend_scheme="never", split=True)


def _decoder(proto: Any) -> decoders.Decoder:
    steps: list[decoders.Decoder] = [decoders.Replace(SPACE, " ")]
    if proto.trainer_spec.byte_fallback:
        steps.append(decoders.ByteFallback())
    steps.append(decoders.Fuse())
    if proto.normalizer_spec.add_dummy_prefix:
        steps.append(decoders.Strip(" ", 1, 0))
    return decoders.Sequence(steps)


def _roles(proto: Any) -> dict[str, str]:
    pieces: Sequence[Any] = proto.pieces
    ids = {role: getattr(proto.trainer_spec, f"{role}_id") for role in ("bos", "eos", "unk", "pad")}
    return {role: pieces[token_id].piece for role, token_id in ids.items() if 0 <= token_id < len(pieces)}
