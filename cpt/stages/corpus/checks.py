"""Check a corpus stage before anything runs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal

from cpt.corpus.texts import is_tokenised_for
from cpt.errors import CptError, Problem, RecipeError
from cpt.models.folder_files import CONFIG, read_object
from cpt.references import parse
from cpt.references.syntax import HubFile, HubModel, LocalPath, WheelFile
from cpt.stages.corpus.config import ByConcepts, CorpusConfig, Source

_ONLY_SCORED = ("general.", "select.by.", "texts.")
"""Prefixes of keys of sources, in a corpus stage or a monitor, that no model is trained on."""


def source_problem(key: str, source: Source) -> Problem | None:
    """Return the problem of a source, as far as its settings and its reference show."""
    from cpt.corpus.readers import format_of

    if not source.complete and key.startswith(_ONLY_SCORED):
        return Problem(
            "complete: false changes nothing in text that is not trained on",
            key=f"{key}.complete",
            hint="Leave it out: only training text gets end tokens.",
        )
    try:
        place = parse(source.path).location
    except RecipeError:
        return None  # the recipe reports malformed references itself
    match place:
        case HubModel():
            return Problem(
                f"{source.path} is neither a local file nor a local folder",
                key=f"{key}.path",
                hint="A file of a hub data set is written hub:datasets/org/name/path/in/repo@revision.",
            )
        case HubFile(path=name) | WheelFile(member=name):
            known = format_of(Path(name)) is not None
        case LocalPath(path=path):
            name, known = path.name, not path.is_file() or format_of(path) is not None
        case _:
            name, known = source.path, True
    if known or source.format != "auto":
        return None
    return Problem(
        f"the format of {name.rpartition('/')[2]} cannot be told from its name",
        key=f"{key}.format",
        hint="Set format: jsonl, parquet, text, obo or python.",
    )


def selection_problems(config: CorpusConfig) -> list[Problem]:
    """Return what the rating of documents lacks: a library, or the format of a list of terms."""
    from cpt.corpus.ratings.settings import RatingSettings

    by = config.select.by if config.select else None
    problems = []
    if isinstance(by, RatingSettings) and (missing := by.problem()) is not None:
        problems.append(Problem(f"{by.kind} {missing}", key="select.by"))
    for number, terms in enumerate(by.terms if isinstance(by, ByConcepts) else []):
        source = Source(path=terms.path, format=terms.format)
        key = f"select.by.terms.{number}"
        if (problem := source_problem(key, source)) is not None:
            hint = "Set format: text, obo or python." if problem.key == f"{key}.format" else problem.hint
            problems.append(replace(problem, hint=hint))
    return problems


def transliteration_problems(config: CorpusConfig) -> list[Problem]:
    """Return a problem for each source to transliterate if uroman is not installed."""
    asking = [key for key, source in config.sources() if source.transliterate]
    if not asking:
        return []
    from tokenizer_tools.transliteration import require_uroman

    try:
        require_uroman()
    except CptError as error:
        return [Problem(error.message, key=f"{key}.transliterate", hint=error.hint) for key in asking]
    return []


def model_problems(config: CorpusConfig, model: Path) -> list[Problem]:
    """Check lengths against the model's positions, and special tokens against its tokenizer."""
    from cpt.corpus.tokenise import special_token

    problems: list[Problem] = []
    most = max_positions(model)
    lengths = {"sequence_length": config.sequence_length}
    lengths |= {f"{key}.length": wanted.length for key, wanted in config.self_generated()}
    for key, length in lengths.items():
        if most is not None and length > most:
            message = f"{length} tokens are more than the {most} positions of the model"
            problems.append(Problem(message, key=key, hint=f"Use at most {most}."))
    for key, choice, role in _special_choices(config):
        try:
            special_token(model, choice, role)
        except CptError as error:
            problems.append(Problem(error.message, key=key, hint=error.hint))
    return problems


def _special_choices(config: CorpusConfig) -> list[tuple[str, str | None, Literal["bos", "eos"]]]:
    return [("start_token", config.start_token, "bos"), ("end_token", config.end_token, "eos")]


def max_positions(model: Path) -> int | None:
    """Return a model's positions by its config.json; None if it names none (or has relative positions)."""
    facts = read_object(model / CONFIG)
    text = facts.get("text_config") or facts
    most = text.get("max_position_embeddings") or text.get("n_positions")
    return int(most) if most else None


def window_for(model: Path, wanted: int) -> int:
    """Return the number of tokens to read at once: `wanted`, or the model's positions if there are fewer."""
    return min(wanted, max_positions(model) or wanted)


def tokenizer_problems(model: Path, corpus: Path) -> list[Problem]:
    """Check that a later stage's corpus is tokenised with the tokenizer of its model."""
    if is_tokenised_for(corpus, model):
        return []
    message = "the corpus is tokenised with another tokenizer than the model's"
    return [Problem(message, key="from", hint="Take both from the same stage: leave `from` out.")]
