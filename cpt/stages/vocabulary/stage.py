"""Run the vocabulary stage: change the vocabulary of the model, and retokenise the corpus."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any, ClassVar

from cpt.corpus.texts import has_texts, iterate_texts
from cpt.errors import CptError, Problem
from cpt.references import unchanged
from cpt.stages.base import Artifact, Context, Stage, StageConfig, UpstreamArtifact, WiringError, newest
from cpt.stages.corpus.checks import tokenizer_problems
from cpt.stages.vocabulary.config import HYPERNETWORK, SOURCE_MODEL, VocabularyConfig
from tokenizer_tools.change import change_vocabulary, check_initialisation, samples_of


class VocabularyStage(Stage[VocabularyConfig]):
    """The vocabulary stage. It learns on the domain's training text; held-out text only measures the gain."""

    kind: ClassVar[str] = "vocabulary"
    Config: ClassVar[type[StageConfig]] = VocabularyConfig
    consumes: ClassVar[tuple[str, ...]] = ("model", "corpus")
    produces: ClassVar[tuple[str, ...]] = ("model", "corpus")
    contract: ClassVar[int] = 4

    def wire(self, config: VocabularyConfig, earlier: Sequence[UpstreamArtifact]) -> dict[str, str]:
        """Return the model and the corpus, and a hypernetwork with its model where the rows come from one."""
        inputs = super().wire(config, earlier)
        if not config.takes_hypernetwork:
            return inputs
        try:
            inputs[HYPERNETWORK] = newest(earlier, HYPERNETWORK, config.from_)
        except WiringError as error:
            hint = "Give its `folder`, or put a hypernetwork stage before this one."
            problem = Problem("no earlier stage makes a hypernetwork", key="embeddings", hint=hint)
            raise WiringError(problem) from error
        (network,) = (stage for stage in earlier if stage.name == inputs[HYPERNETWORK])
        if "base" not in (config.embeddings.model_extra or {}) and network.inputs["model"] != inputs["model"]:
            inputs[SOURCE_MODEL] = network.inputs["model"]
        return inputs

    def references(self, config: VocabularyConfig) -> list[str]:
        """Return the references of the other tokenizer and of the files that the embeddings' method reads."""
        tokenizer = [config.replace.tokenizer] if config.replace is not None else []
        return [*tokenizer, *config.embeddings.files().values()]

    def check(self, config: VocabularyConfig, inputs: Mapping[str, Artifact]) -> list[Problem]:
        """Return the problems of a tokenizer that cannot be changed in this way."""
        if config.transliterate is not None and (problems := _uroman_problems()):
            return problems
        if {"model", "corpus"} <= inputs.keys() and (
            problems := tokenizer_problems(inputs["model"].path("model"), inputs["corpus"].path("corpus"))
        ):
            return problems
        if "model" not in inputs:
            return []
        model = inputs["model"].path("model")
        completed = config.completed(inputs)
        return [*_extension_problems(config, model), *_initialisation_problems(completed, model)]

    def run(
        self, config: VocabularyConfig, inputs: Mapping[str, Artifact], context: Context
    ) -> dict[str, Any]:
        """Change the tokenizer, then the model, then retokenise the corpus."""
        from cpt.corpus import retokenise

        model, corpus = inputs["model"].path("model"), inputs["corpus"].path("corpus")
        output = context.output / "model"
        with unchanged(self.references(config), context.contents):
            facts = change_vocabulary(
                config.completed(inputs),
                model,
                lambda: iterate_texts(corpus, "domain", "train"),
                output,
                samples=samples_of(_heldout(corpus)),
                seed=context.seed,
                progress=context.progress,
            )
        context.progress.message("retokenising the corpus")
        retokenise(corpus, output, context.output / "corpus", context.progress, former=model)
        return facts | compression_of(model, output, corpus)


def _uroman_problems() -> list[Problem]:
    from tokenizer_tools.transliteration import require_uroman

    try:
        require_uroman()
    except CptError as error:
        return [Problem(error.message, key="transliterate", hint=error.hint)]
    return []


def _extension_problems(config: VocabularyConfig, model: Path) -> list[Problem]:
    from tokenizer_tools.extension import why_not

    if config.extend is None:
        return []
    try:
        reason = why_not(model, ngrams=config.extend.ngrams)
    except CptError as error:
        return [Problem(error.message, key="extend", hint=error.hint)]
    return [Problem(reason, key="extend")] if reason else []


def _initialisation_problems(config: VocabularyConfig, model: Path) -> list[Problem]:
    """Return the problem of a method that cannot work for the model. References are not fetched for it."""
    are_local = all(Path(reference).exists() for reference in config.embeddings.files().values())
    if not config.brings_new_tokens or not are_local:
        return []
    try:
        check_initialisation(config.initialisation, model)
    except CptError as error:
        return [Problem(error.message, key="embeddings", hint=error.hint)]
    return []


def _heldout(corpus: Path) -> Iterator[str]:
    """Yield held-out documents of the domain and of general text in turn."""
    turns = zip_longest(*(iterate_texts(corpus, source, "heldout") for source in _measured(corpus)))
    return (text for text in chain.from_iterable(turns) if text is not None)


def _measured(corpus: Path) -> list[str]:
    return [name for name in ("domain", "general") if has_texts(corpus, name, "heldout")]


def compression_of(before: Path, after: Path, corpus: Path) -> dict[str, float]:
    """Compute bytes per token of held-out text; the keys of general text start with `general_`."""
    from tokenizer_tools.measure import compression

    metrics: dict[str, float] = {}
    for source in _measured(corpus):
        texts = list(iterate_texts(corpus, source, "heldout"))
        metrics |= compression(before, after, texts, prefix="" if source == "domain" else f"{source}_")
    return metrics


STAGE = VocabularyStage()
