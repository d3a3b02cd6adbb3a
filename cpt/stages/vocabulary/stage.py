"""The vocabulary stage: tokens for the domain, and the model and the corpus that speak them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any, ClassVar

from cpt.corpus.texts import has_texts, iterate_texts
from cpt.errors import CptError, Problem
from cpt.references import unchanged
from cpt.stages.base import Artifact, Context, Stage, StageConfig
from cpt.stages.corpus.checks import tokenizer_problems
from cpt.stages.vocabulary.change import change_vocabulary, samples_of
from cpt.stages.vocabulary.config import VocabularyConfig


class VocabularyStage(Stage[VocabularyConfig]):
    """Changes the vocabulary for the domain's training text; held-out text only measures the gain."""

    kind: ClassVar[str] = "vocabulary"
    Config: ClassVar[type[StageConfig]] = VocabularyConfig
    consumes: ClassVar[tuple[str, ...]] = ("model", "corpus")
    produces: ClassVar[tuple[str, ...]] = ("model", "corpus")
    contract: ClassVar[int] = 4

    def references(self, config: VocabularyConfig) -> list[str]:
        """The other tokenizer, and files that the embeddings' method reads."""
        tokenizer = [config.replace.tokenizer] if config.replace is not None else []
        return [*tokenizer, *config.embeddings.files().values()]

    def check(self, config: VocabularyConfig, inputs: Mapping[str, Artifact]) -> list[Problem]:
        """The tokenizer must be of a kind that can be changed so."""
        from tokenizer_tools.extension import why_not

        if config.transliterate is not None and (problems := _uroman_problems()):
            return problems
        if {"model", "corpus"} <= inputs.keys() and (
            problems := tokenizer_problems(inputs["model"].path("model"), inputs["corpus"].path("corpus"))
        ):
            return problems
        if "model" not in inputs or config.extend is None:
            return []
        try:
            reason = why_not(inputs["model"].path("model"), ngrams=config.extend.ngrams)
        except CptError as error:
            return [Problem(error.message, key="extend", hint=error.hint)]
        return [Problem(reason, key="extend")] if reason else []

    def run(
        self, config: VocabularyConfig, inputs: Mapping[str, Artifact], context: Context
    ) -> dict[str, Any]:
        """Change the tokenizer, then the model, then retokenise the corpus."""
        from cpt.corpus import retokenise

        model, corpus = inputs["model"].path("model"), inputs["corpus"].path("corpus")
        output = context.output / "model"
        with unchanged(self.references(config), context.contents):
            facts = change_vocabulary(
                config,
                model,
                lambda: iterate_texts(corpus, "domain", "train"),
                output,
                samples=samples_of(_heldout(corpus)),
                seed=context.seed,
                progress=context.progress,
            )
        context.progress.message("retokenising the corpus")
        retokenise(corpus, output, context.output / "corpus", context.progress, former=model)
        return facts | _compression(model, output, corpus)


def _uroman_problems() -> list[Problem]:
    from tokenizer_tools.transliteration.romanise import require_uroman

    try:
        require_uroman()
    except CptError as error:
        return [Problem(error.message, key="transliterate", hint=error.hint)]
    return []


def _heldout(corpus: Path) -> Iterator[str]:
    """Held-out text of the domain and general text by turns, as far as the corpus has them."""
    turns = zip_longest(*(iterate_texts(corpus, source, "heldout") for source in _measured(corpus)))
    return (text for text in chain.from_iterable(turns) if text is not None)


def _measured(corpus: Path) -> list[str]:
    return [name for name in ("domain", "general") if has_texts(corpus, name, "heldout")]


def _compression(before: Path, after: Path, corpus: Path) -> dict[str, float]:
    """Bytes per token of held-out text; the domain's without prefix, others' with their source's name."""
    from cpt.models.tokenizer import load_tokenizer
    from tokenizer_tools.measure import bytes_per_token

    metrics = {}
    for source in _measured(corpus):
        texts = list(iterate_texts(corpus, source, "heldout"))
        prefix = "" if source == "domain" else f"{source}_"
        for when, folder in (("before", before), ("after", after)):
            metrics[f"{prefix}bytes_per_token_{when}"] = bytes_per_token(load_tokenizer(folder), texts)
    return metrics


STAGE = VocabularyStage()
