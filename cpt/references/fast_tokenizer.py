"""Write a folder with a fast tokenizer: tokenizer.json and the roles of special tokens; read vocab.txt."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from cpt.errors import DataError

_NAMES = {
    "bos": ("<s>", "<bos>", "<|begin_of_text|>", "<|startoftext|>"),
    "eos": ("</s>", "<eos>", "<|end_of_text|>", "<|endoftext|>"),
    "unk": ("<unk>", "[UNK]"),
    "pad": ("<pad>", "[PAD]"),
    "sep": ("[SEP]",),
    "cls": ("[CLS]",),
    "mask": ("<mask>", "[MASK]"),
}


@dataclass(frozen=True)
class FastTokenizer:
    """A converted tokenizer.

    Attributes:
        tokenizer: Content of tokenizer.json.
        roles: Content of special tokens by role: "bos", "eos", "unk", "pad", "sep", "cls", "mask".
    """

    tokenizer: Tokenizer
    roles: Mapping[str, str] = field(default_factory=dict)

    def save(self, folder: Path) -> None:
        """Write the folder; the named class makes transformers load tokenizer.json as it is."""
        config = {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "clean_up_tokenization_spaces": False,
            **{f"{role}_token": content for role, content in self.roles.items()},
        }
        folder.mkdir(parents=True, exist_ok=True)
        self.tokenizer.save(str(folder / "tokenizer.json"))
        text = json.dumps(config, indent=2, ensure_ascii=False) + "\n"
        (folder / "tokenizer_config.json").write_text(text, encoding="utf-8")


def framed(tokenizer: Tokenizer, before: str | None, after: str | None) -> None:
    """Set a post-processor that puts a special token before or after a text."""
    tokens = [token for token in (before, after) if token is not None]
    parts = [*([before] if before else []), "$A", *([after] if after else [])]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=" ".join(parts),
        pair=" ".join([*parts, *(part.replace("$A", "$B") + ":1" for part in parts)]),
        special_tokens=[(token, tokenizer.token_to_id(token)) for token in tokens],
    )


def conventional_roles(special: Iterable[str]) -> dict[str, str]:
    """Return roles by the usual names of special tokens, for files without roles."""
    present = set(special)
    found = {role: next((name for name in names if name in present), None) for role, names in _NAMES.items()}
    return {role: name for role, name in found.items() if name is not None}


_NAME = re.compile(r"\[[A-Z]+\]")


def read_word_piece(content: bytes, name: str) -> FastTokenizer:
    """Read a WordPiece vocabulary (BERT's vocab.txt): one piece a line; the line number is the id.

    The file does not record lower-casing. Text is lower-cased unless a piece has an upper-case letter.

    Args:
        content: Content of the file.
        name: Name of the file, for messages.

    Raises:
        DataError: The file is no WordPiece vocabulary.
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
