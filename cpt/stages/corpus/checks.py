"""Check a corpus stage before anything runs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal

from cpt.corpus.blocks.age import Age
from cpt.corpus.blocks.quality import Quality
from cpt.corpus.extras import ExtraSettings
from cpt.corpus.readers import FORMATS, RECORDS, format_of, missing_library
from cpt.corpus.readers.arrow import is_saved_data_set, saved_files
from cpt.corpus.readers.conversations import NO_TEMPLATE
from cpt.corpus.texts import is_tokenised_for
from cpt.errors import CptError, Problem, RecipeError
from cpt.models.folder_files import CONFIG, read_object
from cpt.models.tokenizer import chat_template
from cpt.references import parse
from cpt.references.syntax import (
    Address,
    HubDataSet,
    HubFile,
    HubModel,
    LocalPath,
    LocalPattern,
    Location,
    WheelFile,
)
from cpt.stages.corpus.config import ByConcepts, CorpusConfig, Source

_ONLY_SCORED = ("general.", "select.by.", "texts.")
"""Prefixes of keys of sources, in a corpus stage or a monitor, that no model is trained on."""


def source_problem(key: str, source: Source) -> Problem | None:
    """Return the first problem of a source, as far as its settings and its reference show."""
    problem = _idle_key(key, source)
    if problem is not None:
        return problem
    try:
        place = parse(source.path).location
    except RecipeError:
        return None  # the recipe reports malformed references itself
    found, known = _format(place, source)
    if (missing := missing_library(found)) is not None:
        return Problem(missing, key=f"{key}.format")
    problem = _misplaced_key(key, source, place, found)
    if problem is not None:
        return problem
    if isinstance(place, HubModel):
        return Problem(
            f"{source.path} is neither a local file nor a local folder",
            key=f"{key}.path",
            hint="On the hub, a data set is hub:datasets/org/name@revision, a file of it "
            "hub:datasets/org/name/path/in/repo@revision.",
        )
    if known or source.format != "auto":
        return None
    name = place.path.name if isinstance(place, LocalPath) else source.path.rpartition("@")[0] or source.path
    return Problem(
        f"the format of {name.rpartition('/')[2]} cannot be told from its name",
        key=f"{key}.format",
        hint=f"Set format: {FORMATS}.",
    )


def _idle_key(key: str, source: Source) -> Problem | None:
    """Return the problem of a setting that changes nothing, or that cannot be joined with another."""
    only_scored = key.startswith(_ONLY_SCORED)
    if not source.complete and only_scored:
        return Problem(
            "complete: false changes nothing in text that is not trained on",
            key=f"{key}.complete",
            hint="Leave it out: only training text gets end tokens.",
        )
    if source.chat is not None and only_scored:
        return Problem(
            "conversations cannot be measured: figures on text read no special tokens",
            key=f"{key}.chat",
            hint="Train on them in `domain` or `replay`, and measure the answers with a task.",
        )
    if source.chat is not None and source.transliterate:
        return Problem("conversations cannot be transliterated", key=f"{key}.transliterate")
    if source.chat is not None and source.chunk is not None:
        return Problem("conversations cannot be cut into chunks", key=f"{key}.chunk", hint="Leave it out.")
    if source.metadata and key.startswith("texts."):
        return Problem("metadata of measured text is never read", key=f"{key}.metadata", hint="Leave it out.")
    return None


def _format(place: Location, source: Source) -> tuple[str, bool]:
    """Return a source's format as far as its name tells it, or "auto"; and if reading may find it."""
    match place:
        case HubFile(path=name) | WheelFile(member=name):
            found, known = format_of(Path(name)), False
        case LocalPath(path=path):
            found, known = format_of(path), not path.is_file()
        case LocalPattern(pattern=name):
            found, known = format_of(Path(name)), True
        case Address(url=url):
            found, known = format_of(Path(url.partition("?")[0])), place.protocol not in ("http", "https")
        case _:
            found, known = None, True
    return (found or "auto") if source.format == "auto" else source.format, known or found is not None


_READ_BY_FIELD = (*RECORDS, "auto")


def _misplaced_key(key: str, source: Source, place: Location, found: str) -> Problem | None:
    """Return the problem of a setting that the source's kind does not have."""
    if isinstance(place, HubDataSet):
        found = "auto"
        if source.format != "auto":
            return Problem(
                "a data set of the hub has the format that `datasets` finds",
                key=f"{key}.format",
                hint="Leave format out, or name a file: hub:datasets/org/name/path/in/repo@revision.",
            )
    elif source.subset is not None:
        return Problem("only a data set of the hub has subsets", key=f"{key}.subset", hint=_NO_SPLIT)
    is_saved = isinstance(place, LocalPath) and is_saved_data_set(place.path)
    may_be_saved = isinstance(place, Address) and found in ("auto", "arrow")
    if source.split is not None and not (isinstance(place, HubDataSet) or is_saved or may_be_saved):
        return Problem("there are no splits to choose from", key=f"{key}.split", hint=_NO_SPLIT)
    if isinstance(place, LocalPath) and is_saved and found in ("auto", "arrow"):
        try:
            saved_files(place.path, source.split)
        except CptError as error:
            return Problem(error.message, key=f"{key}.split", hint=error.hint)
    if source.chat is not None and found not in _READ_BY_FIELD:
        return Problem(f"format {found} has no fields with conversations", key=f"{key}.chat")
    if source.metadata and found not in (*_READ_BY_FIELD, "markdown"):
        return Problem(f"format {found} has no fields to keep", key=f"{key}.metadata")
    if source.delimiter is not None and found not in ("csv", "auto"):
        return Problem(f"format {found} has no delimiter", key=f"{key}.delimiter")
    return None


_NO_SPLIT = "Name the file or folder of the one that you want."


def metadata_problems(config: CorpusConfig) -> list[Problem]:
    """Return a problem for each block that reads a field which its sources do not keep as metadata.

    The texts that a selection compares with are cleaned like all others. So a block that removes what has no
    such field would leave nothing of them, which would be noticed only when everything else is done.
    """
    sources = list(config.sources())
    problems = []
    for at, block in enumerate(config.clean):
        if not isinstance(block, Age | Quality) or block.field is None:
            continue
        lacking = [key for key, source in sources if block.field not in source.metadata]
        removed = lacking if _removes_without_field(block) else []
        own = [key for key, _ in sources if not key.startswith("select.")]
        idle = own if set(own) <= set(lacking) else []
        if found := removed or idle:
            problems.append(
                Problem(
                    f"{', '.join(found)} {'keeps' if len(found) == 1 else 'keep'} no field {block.field!r}",
                    key=f"clean.{at}.field",
                    hint=f"Give {'it' if len(found) == 1 else 'each of them'} metadata: [{block.field}].",
                )
            )
    return problems


def _removes_without_field(block: Age | Quality) -> bool:
    """Return True if a block removes every document of a source that does not keep its field."""
    return block.unknown == "remove" and (isinstance(block, Quality) or block.pattern is None)


def single_file_problems(named: list[tuple[str, str]]) -> list[Problem]:
    """Return a problem for each reference of one file that is a pattern or a data set."""
    problems = []
    for key, reference in named:
        try:
            place = parse(reference).location
        except RecipeError:
            continue  # the recipe reports malformed references itself
        many = isinstance(place, LocalPattern | HubDataSet)
        if many or (isinstance(place, Address) and any(mark in place.url for mark in "*?[")):
            problems.append(Problem(f"{reference} is no single file", key=key, hint="Name one file."))
    return problems


def selection_problems(config: CorpusConfig) -> list[Problem]:
    """Return what the rating of documents lacks: a library, or the format of a list of terms."""
    by = config.select.by if config.select else None
    problems = []
    if isinstance(by, ExtraSettings) and (missing := by.problem()) is not None:
        problems.append(Problem(missing, key="select.by"))
    for number, terms in enumerate(by.terms if isinstance(by, ByConcepts) else []):
        source = Source(path=terms.path, format=terms.format)
        key = f"select.by.terms.{number}"
        if (problem := source_problem(key, source)) is not None:
            hint = "Set format: text, obo or python." if problem.key == f"{key}.format" else problem.hint
            problems.append(replace(problem, hint=hint))
    return problems


def transliteration_problems(config: CorpusConfig) -> list[Problem]:
    """Return a problem for each source to transliterate if uroman is not installed."""
    return uroman_problems([key for key, source in config.sources() if source.transliterate])


def uroman_problems(asking: list[str]) -> list[Problem]:
    """Return a problem for each key of a source that is transliterated, if uroman is not installed."""
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
    from cpt.corpus.document_tokenizer import special_token

    problems: list[Problem] = []
    most = max_positions(model)
    lengths = {"sequence_length": config.sequence_length}
    lengths |= {f"{key}.length": each.length for key, each in config.self_generated() if each.form == "text"}
    for key, length in lengths.items():
        if most is not None and length > most:
            message = f"{length} tokens are more than the {most} positions of the model"
            problems.append(Problem(message, key=key, hint=f"Use at most {most}."))
    chats = [(key, each.length) for key, each in config.self_generated() if each.form == "chat"]
    for key, length in chats:
        if most is not None and length >= most:
            message = f"{length} tokens leave a chat template none of the model's {most} positions"
            problems.append(Problem(message, key=f"{key}.length", hint=f"Use less than {most}."))
    conversations = [f"{key}.chat" for key, source in config.sources() if source.chat is not None]
    conversations += [f"{key}.form" for key, _ in chats]
    if conversations and chat_template(model) is None:
        message = "the base model has no chat template"
        problems += [Problem(message, key=key, hint=NO_TEMPLATE) for key in conversations]
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
