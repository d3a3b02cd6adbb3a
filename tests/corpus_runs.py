"""The corpus stage run in a test: a base with one token per byte, sources as JSONL, what the run said."""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from cpt.stages.base import Artifact, Context
from cpt.stages.corpus.stage import STAGE, CorpusConfig


class Heard:
    """A `Progress` that remembers its messages."""

    def __init__(self) -> None:
        self.messages: list[str] = []

    def message(self, text: str) -> None:
        self.messages.append(text)

    def update(self, done: int, total: int, unit: str, **facts: float) -> None:
        assert done <= total


def byte_model(tmp_path: Path) -> Artifact:
    """Write a base model folder: one token per byte, `<s>` and `</s>`, 128 positions."""
    folder = tmp_path / "base" / "model"
    folder.mkdir(parents=True)
    tokens = ["<s>", "</s>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    tokenizer = Tokenizer(models.BPE({token: id for id, token in enumerate(tokens)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<s>", "</s>"])
    tokenizer.save(str(folder / "tokenizer.json"))
    marks = {"bos_token": "<s>", "eos_token": "</s>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(marks))
    (folder / "config.json").write_text(json.dumps({"max_position_embeddings": 128}))
    return Artifact(name="base", stage="base", kinds=("model",), fingerprint="b", folder=tmp_path / "base")


def write(path: Path, *texts: str) -> dict[str, str]:
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return {"path": str(path)}


def run(
    base: Artifact, tmp_path: Path, out: str = "out", seed: int = 17, **config: Any
) -> tuple[Path, dict[str, Any], list[str]]:
    settings = {"heldout": 0.1, "heldout_min": {"documents": 1, "bytes": 1}, "sequence_length": 64, **config}
    heard = Heard()
    named = zlib.crc32(json.dumps([settings, seed], sort_keys=True).encode())  # as a fingerprint does
    work = tmp_path / f"work-{out}" / f"{named:08x}"
    context = Context(output=tmp_path / out, work=work, seed=seed, progress=heard, recipe={})
    metrics = STAGE.run(CorpusConfig.model_validate(settings), {"model": base}, context)
    return tmp_path / out / "corpus", metrics, heard.messages


def records(path: Path, *rows: dict[str, Any]) -> str:
    """Write rows as JSON lines; return the path."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def domain(tmp_path: Path) -> dict[str, str]:
    return write(tmp_path / "domain.jsonl", *(f"domain text {number}" for number in range(80)))


def problems(base: Artifact | None = None, **config: Any) -> dict[str | None, str]:
    checked = CorpusConfig.model_validate({"domain": [{"path": "a.jsonl"}], **config})
    found = STAGE.check(checked, {"model": base} if base else {})
    return {problem.key: problem.message for problem in found}
