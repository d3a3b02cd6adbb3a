"""Train in a fixed tokenizer: the network that it begins with, and the model that comes of it."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from cpt.corpus.texts import iterate_texts
from cpt.errors import CptError, DataError, Problem
from cpt.progress import Progress
from cpt.sources import DOMAIN
from cpt.stages.base import Artifact, Context, UpstreamArtifact, WiringError, newest
from cpt.stages.hypernetwork.config import HypernetworkStageConfig
from cpt.stages.vocabulary.config import HYPERNETWORK
from tokenizer_tools.hypernetwork.settings import HypernetworkConfig

if TYPE_CHECKING:
    from tokenizer_tools.hypernetwork.network import Hypernetwork
    from tokenizer_tools.hypernetwork.source import SourceModel
    from tokenizer_tools.vocabulary import Vocabulary

_PAD_TO = 64


def wire_initial(
    config: HypernetworkStageConfig, earlier: Sequence[UpstreamArtifact], model: str
) -> dict[str, str]:
    """Return the earlier hypernetwork that a training in a fixed tokenizer begins with, by its role.

    Args:
        config: Settings of the stage.
        earlier: Stages before it.
        model: Name of the stage whose model it reads.

    Raises:
        WiringError: The network cannot begin with random weights, and there is no other; or the other is for
            another stage's model.
    """
    if config.tokenizer is None or config.initial is not None or config.start is not None:
        return {}
    if any(HYPERNETWORK in stage.kinds for stage in earlier):
        name = newest(earlier, HYPERNETWORK, config.from_)
        trained_for = next(stage.inputs["model"] for stage in earlier if stage.name == name)
        if trained_for != model:
            message = f"the hypernetwork of `{name}` is for the model of `{trained_for}`, not of `{model}`"
            hint = f"Put this stage right after `{name}`'s, before others that change the model."
            raise WiringError(Problem(message, key="from", hint=hint))
        return {HYPERNETWORK: name}
    if config.network.variant != "zett":
        return {}
    raise WiringError(
        Problem(
            "variant zett predicts noise before it is trained, and no earlier stage makes a hypernetwork",
            key="tokenizer",
            hint="Name a trained one as `initial`, or put a hypernetwork stage before this one.",
        )
    )


def initial_problems(config: HypernetworkStageConfig, inputs: Mapping[str, Artifact]) -> list[Problem]:
    """Return the problem of a network to begin with that is local and fits neither model nor settings."""
    if config.initial is not None:
        folder = Path(config.initial)
        if not folder.is_absolute():  # it is not located yet, or remote
            return []
    elif HYPERNETWORK in inputs:
        folder = inputs[HYPERNETWORK].path(HYPERNETWORK)
    else:
        return []
    key = "initial" if config.initial is not None else ""
    try:
        if "model" in inputs:
            require_source(folder, inputs["model"].path("model"))
        architecture(config, folder)
    except CptError as error:
        return [Problem(error.message, key=key, hint=error.hint)]
    return []


def require_source(folder: Path, model: Path) -> None:
    """Raise unless a hypernetwork was trained for exactly the vocabulary of a model.

    Raises:
        MissingInput, ModelError: The hypernetwork or the model cannot be read.
        DataError: The model has other rows or tokens, or more of them.
    """
    from tokenizer_tools.hypernetwork.folder import require_fit
    from tokenizer_tools.hypernetwork.source import read_source

    known, size = require_fit(folder, model).size, read_source(model).size
    if known != size:
        raise DataError(
            f"the hypernetwork in {folder} knows {known:,} tokens, but the model in {model} has {size:,}",
            hint="Train it on with the model that it was trained for.",
        )


def architecture(config: HypernetworkStageConfig, folder: Path) -> HypernetworkConfig:
    """Return the architecture of the network that a training begins with, or goes on with.

    Raises:
        MissingInput, ModelError: The hypernetwork cannot be read.
        DataError: The settings ask for another one.
    """
    from tokenizer_tools.hypernetwork.folder import read_facts

    found = read_facts(folder).hypernetwork
    if "network" in config.model_fields_set and config.network != found:
        raise DataError(
            f"the hypernetwork in {folder} has another architecture than `network`",
            hint="Leave `network` out.",
        )
    return found


def load_initial(
    config: HypernetworkStageConfig, inputs: Mapping[str, Artifact], model: Path, progress: Progress
) -> Hypernetwork | None:
    """Load the network that a training in a fixed tokenizer begins with; None if there is no other.

    Raises:
        CptError: The hypernetwork cannot be read, or does not fit the model or the settings.
    """
    from tokenizer_tools.hypernetwork.folder import load_hypernetwork
    from tokenizer_tools.hypernetwork.reference import resolve_hypernetwork

    if config.initial is not None:
        folder = resolve_hypernetwork(config.initial, progress)
    elif HYPERNETWORK in inputs:
        folder = inputs[HYPERNETWORK].path(HYPERNETWORK)
    else:
        return None
    require_source(folder, model)
    architecture(config, folder)
    return load_hypernetwork(folder, model)


@dataclass(frozen=True)
class FixedTokenizer:
    """The fixed tokenizer as the model will have it.

    Attributes:
        folder: Folder of the tokenizer.
        vocabulary: Its vocabulary.
        facts: What was checked.
    """

    folder: Path
    vocabulary: Vocabulary
    facts: Mapping[str, Any]


def write_tokenizer(
    config: HypernetworkStageConfig, model: Path, corpus: Path, folder: Path, progress: Progress
) -> FixedTokenizer | None:
    """Write the fixed tokenizer into a folder, and check it on training text; None without one.

    Raises:
        DataError: The model cannot have it.
        StageFailed: It cannot spell the text.
    """
    from tokenizer_tools.change import change_tokenizer
    from tokenizer_tools.vocabulary import read_vocabulary

    if config.change is None:
        return None
    facts = change_tokenizer(
        config.change, model, lambda: iterate_texts(corpus, DOMAIN, "train"), folder, progress=progress
    )
    return FixedTokenizer(folder, read_vocabulary(folder), facts)


def write_model(
    trained: Any,
    source: SourceModel,
    tokenizer: FixedTokenizer,
    config: HypernetworkStageConfig,
    corpus: Path,
    context: Context,
) -> dict[str, Any]:
    """Write the trained model with the fixed tokenizer and predicted rows, and the corpus in its tokens.

    Args:
        trained: Model, in float32, with the source model's embeddings.
        source: Source model.
        tokenizer: The fixed tokenizer.
        config: Settings of the stage, whose hypernetwork is written already.
        corpus: Corpus in the source model's tokens.
        context: Where to write.

    Returns:
        Facts on the change, as of the vocabulary stage.
    """
    from cpt.corpus import retokenise
    from cpt.stages.pretrain.results import save_model
    from cpt.stages.vocabulary.stage import compression_of
    from tokenizer_tools.change import change_model, sizes
    from tokenizer_tools.settings import EmbeddingsConfig
    from tokenizer_tools.transfer import plan_transfer

    output, folder = context.output / "model", context.output / HYPERNETWORK
    shutil.copytree(tokenizer.folder, output)
    with TemporaryDirectory(dir=context.work) as scratch:
        before = Path(scratch)
        save_model(trained, source.folder, before)
        transfer = plan_transfer(before, output, model=before, seed=context.seed)
        embeddings = EmbeddingsConfig.model_validate(
            {"method": HYPERNETWORK, "folder": str(folder), "shared": config.shared}
        )
        facts = change_model(
            embeddings, transfer, output, pad_to_multiple_of=_PAD_TO, progress=context.progress
        )
    facts.get("initialisation", {}).pop("hypernetwork", None)  # a folder that is renamed
    context.progress.message("retokenising the corpus")
    retokenise(corpus, output, context.output / "corpus", context.progress, former=source.folder)
    return {**tokenizer.facts, **facts, **sizes(transfer), **compression_of(source.folder, output, corpus)}
