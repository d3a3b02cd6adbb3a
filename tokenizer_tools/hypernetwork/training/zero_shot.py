"""Measure zero-shot bits per byte: the source model reads text in real tokenizers, by predicted rows.

All tokenizers read the same stretches of text, so that each scored byte has the same bytes before it.

Shapes: W plain tokens of a tokenizer, H width of a matrix.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from cpt.errors import DataError
from cpt.models.bits_per_byte import TokenisedText, score
from cpt.models.shared_windows import Reader, tokenise_shared
from cpt.models.tokenizer import load_tokenizer
from cpt.monitor.reading import Items, Reading
from tokenizer_tools.embeddings import Role
from tokenizer_tools.hypernetwork.source import SourceModel
from tokenizer_tools.hypernetwork.surface_forms import SurfaceForms, surface_forms
from tokenizer_tools.hypernetwork.training.backbone import ReplacedEmbeddings
from tokenizer_tools.vocabulary import Vocabulary, read_vocabulary

SOURCE = "source"
"""Name of the source model's own tokenizer, and of its own rows, among readings."""

Predict = Callable[[SurfaceForms], Mapping[Role, Tensor]]
"""Function: pieces of W tokens -> their rows [W, H] by role."""

Baselines = MutableMapping[str, dict[str, list[float]]]
"""First reading of each probe, document by document."""


@dataclass(frozen=True)
class ZeroShotProbe:
    """Held-out texts in one tokenizer.

    Attributes:
        name: Name of the tokenizer.
        forms: Pieces of its W plain tokens; None for the source model, which has rows of its own.
        texts: Windows by source of the text. Ids are places among the plain tokens.
    """

    name: str
    forms: SurfaceForms | None
    texts: Mapping[str, TokenisedText]

    @cached_property
    def readings(self) -> dict[str, str]:
        """Return the name of the reading of each text, and the digest of its tokens and of their pieces."""
        pieces = b"" if self.forms is None else self.forms.ids_NL.numpy().tobytes()
        return {f"{self.name}/{source}": _digest(text, pieces) for source, text in self.texts.items()}

    def read(
        self, backbone: ReplacedEmbeddings, predict: Predict, step: int, tokens: int, baselines: Baselines
    ) -> Iterator[Reading]:
        """Yield a reading for each text: `NAME/SOURCE`.

        Args:
            backbone: Source model.
            predict: Function that predicts rows.
            step, tokens: Numbers of steps and tokens trained before.
            baselines: First reading of each probe; receives those that are missing.
        """
        began = time.perf_counter()
        backbone.rows = None if self.forms is None else predict(self.forms)
        for source, text in self.texts.items():
            name = f"{self.name}/{source}"
            scores = score(backbone, text)
            items = Items(scores.nats / math.log(2), scores.bytes.astype(float))
            first = Items.from_json(baselines.setdefault(name, items.as_json()))
            rise, rise_error = items.rise_over(first)
            ended = time.perf_counter()
            yield Reading(
                step=step,
                tokens=tokens,
                probe=name,
                kind="text",
                unit="bits per byte",
                value=items.value,
                standard_error=items.standard_error,
                rise=rise,
                rise_error=rise_error,
                seconds=ended - began,
                items=items.count,
            )
            began = ended
        backbone.rows = None


def build_probes(
    source: SourceModel,
    tokenizers: Mapping[str, Path],
    texts: Mapping[str, Sequence[str]],
    window: int,
    pieces: int,
) -> list[ZeroShotProbe]:
    """Prepare a probe for the source model and for each tokenizer; none without tokenizers.

    Args:
        source: Source model.
        tokenizers: Folders by name.
        texts: Documents by source.
        window: Most tokens of a window, of any tokenizer.
        pieces: Most pieces of a token.

    Raises:
        DataError: A tokenizer makes tokens of a text that stand for no bytes, or there is nothing to score.
    """
    if not tokenizers:
        return []
    vocabularies = {name: read_vocabulary(folder) for name, folder in tokenizers.items()}
    folders = [source.folder, *tokenizers.values()]
    readers = [Reader.of(load_tokenizer(folder), window, None) for folder in folders]
    found: dict[str, dict[str, TokenisedText]] = {name: {} for name in (SOURCE, *vocabularies)}
    for kind, documents in texts.items():
        own, *others = tokenise_shared(readers, documents).texts
        found[SOURCE][kind] = own
        for (name, vocabulary), text in zip(vocabularies.items(), others, strict=True):
            found[name][kind] = _among_plain(text, vocabulary)
    probes = [ZeroShotProbe(SOURCE, None, found[SOURCE])]
    for name, vocabulary in vocabularies.items():
        surfaces = [surface for surface in vocabulary.surfaces if surface]
        forms = surface_forms(source.vocabulary, surfaces, pieces)
        probes.append(ZeroShotProbe(name, forms, found[name]))
    return probes


def _digest(text: TokenisedText, pieces: bytes) -> str:
    digest = hashlib.sha256(pieces)
    for window in text.windows:
        digest.update(np.ascontiguousarray(window, dtype=np.int64).tobytes())
        digest.update(b"|")
    return digest.hexdigest()


def _among_plain(text: TokenisedText, vocabulary: Vocabulary) -> TokenisedText:
    """Return a text whose ids are places among the tokens that stand for bytes.

    Raises:
        DataError: The text has other tokens.
    """
    is_plain = np.array([bool(surface) for surface in vocabulary.surfaces])
    places = np.where(is_plain, is_plain.cumsum() - 1, -1)
    windows = [places[ids] for ids in text.windows]
    for ids, placed in zip(text.windows, windows, strict=True):
        if (placed < 0).any():
            token = vocabulary.tokens[int(ids[placed < 0][0])]
            raise DataError(
                f"the tokenizer in {vocabulary.folder} makes the token {token!r} of held-out text, which "
                "stands for no bytes, so that no row can be predicted for it",
                hint="Measure tokenizers that spell all text, such as byte-level ones.",
            )
    return replace(text, windows=windows)


def due(step: int, total: int, every: int, readings: Sequence[Mapping[str, Any]]) -> bool:
    """Return True if probes are read after a step: the first, every few, and the last, each once."""
    known = any(reading["step"] == step for reading in readings)
    return not known and (step in (0, total) or step % every == 0)
