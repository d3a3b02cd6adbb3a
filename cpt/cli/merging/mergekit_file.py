"""mergekit's own configuration files: read as mergekit reads them, and nothing in them passed over silently.

mergekit ignores keys and parameters that it does not know. Here one that looks like a misspelling is refused,
and any other is told to have no effect.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]
from pydantic import ValidationError

from cpt.cli.silence import silent
from cpt.errors import Problem, RecipeError
from cpt.recipe.document import Document, Where
from cpt.recipe.explain import findings
from cpt.recipe.suggest import did_you_mean, nearest

_OTHERS = {
    "experts": "mergekit-moe makes mixtures of experts; cpt merge does not.",
    "genome": "mergekit-evolve's files are not merges; cpt merge search looks for weights.",
}


@dataclass(frozen=True)
class MergekitFile:
    """A configuration.

    Attributes:
        text: as it was written.
        data: as plain data, as mergekit reads it.
        config: a `MergeConfiguration`.
        notes: what is written and has no effect.
    """

    document: Document
    text: str
    data: Mapping[str, Any]
    config: Any
    notes: tuple[str, ...]

    @property
    def references(self) -> dict[str, str]:
        """Every model, by how it is written in the file, in the order in which they come."""
        return {str(each.model): str(each.model) for each in self._models()}

    @property
    def adapters(self) -> dict[str, str]:
        """Every adapter (`model+adapter`)."""
        return {str(each.lora): str(each.lora) for each in self._models() if each.lora}

    def _models(self) -> list[Any]:
        return sorted(self.config.referenced_models() + self._of_tokens(), key=str)

    def _of_tokens(self) -> list[Any]:
        """Models that are named only as sources of tokens."""
        from mergekit.common import ModelReference

        tokenizer = self.config.tokenizer
        sources = [self.config.tokenizer_source, tokenizer.source if tokenizer else None]
        for token in (tokenizer.tokens or {}).values() if tokenizer else ():
            sources += [token.source, getattr(token.source, "model", None)]
        return [source for source in sources if isinstance(source, ModelReference)]

    def localised(self, place: Callable[[Any], Mapping[str, Any]]) -> dict[str, Any]:
        """The configuration as data, with every model replaced.

        Args:
            place: what stands for a `ModelReference`.
        """
        from mergekit.common import ModelReference

        def model(value: Any) -> Any:
            return value if value is None else place(ModelReference.model_validate(value))

        def entry(data: Mapping[str, Any]) -> dict[str, Any]:
            found = dict(data)
            for key in ("model", "base_model"):
                if key in found:
                    found[key] = model(found[key])
            for key in ("models", "slices", "sources"):
                if found.get(key):
                    found[key] = [entry(each) for each in found[key]]
            return found

        data = entry(self.data)
        if data.get("modules"):
            data["modules"] = {name: entry(each) for name, each in data["modules"].items()}
        if data.get("tokenizer_source") not in (None, "union", "base"):
            data["tokenizer_source"] = model(data["tokenizer_source"])
        if data.get("tokenizer"):
            data["tokenizer"] = _tokenizer(data["tokenizer"], model)
        return data


def _tokenizer(data: Mapping[str, Any], model: Callable[[Any], Any]) -> dict[str, Any]:
    found = dict(data)
    if found.get("source") not in (None, "union", "base"):
        found["source"] = model(found["source"])
    if found.get("tokens"):
        found["tokens"] = {token: dict(said or {}) for token, said in found["tokens"].items()}
        for said in found["tokens"].values():
            source = said.get("source")
            if isinstance(source, Mapping) and "kind" in source:
                said["source"] = dict(source) | (
                    {"model": model(source["model"])} if "model" in source else {}
                )
            elif source is not None:
                said["source"] = model(source)
    return found


def is_mergekits(data: Mapping[str, Any]) -> bool:
    """Whether a file is mergekit's rather than ours."""
    return bool(data.keys() & {"merge_method", "slices", "modules", *_OTHERS})


def read(document: Document) -> MergekitFile:
    """Read a configuration.

    Raises:
        RecipeError: with everything that mergekit would refuse, or that looks misspelt, by line.
    """
    with silent():  # quantisation libraries that mergekit imports say what they miss
        from mergekit.config import MergeConfiguration

    text = Path(document.file).read_text(encoding="utf-8-sig")
    for key, message in _OTHERS.items():
        if key in document.data:
            raise RecipeError([document.problem((key,), "this is no file of mergekit-yaml", message)])
    data = yaml.safe_load(text)
    unknown = list(_unknown(data))
    problems = [
        document.problem(where, f"unknown key `{where[-1]}`", hint) for where, hint in unknown if hint
    ]
    notes = [
        f"`{document.key(where)}` is nothing that mergekit knows: no effect"
        for where, hint in unknown
        if not hint
    ]
    config = None
    try:
        config = MergeConfiguration.model_validate(data)
        problems += _wrong_method(document, config)
    except ValidationError as error:
        found = findings(error, MergeConfiguration, data)
        problems += [document.problem(each.where, each.message, each.hint) for each in found]
    except (RuntimeError, ValueError) as error:
        problems.append(Problem(str(error), file=document.file))
    if problems:
        raise RecipeError(problems)
    return MergekitFile(document, text, data, config, tuple(notes))


def _wrong_method(document: Document, config: Any) -> Iterator[Problem]:
    """A method that there is not, or parameters that look like misspellings of its own."""
    from merging.mergekit_file import written_parameters
    from merging.methods import methods

    method = methods().get(config.merge_method.replace("_", "-"))
    if method is None:
        hint = did_you_mean(config.merge_method, (name.replace("-", "_") for name in methods()))
        yield document.problem(("merge_method",), f"there is no merge method {config.merge_method!r}", hint)
        return
    known = {parameter.name for each in methods().values() for parameter in each.parameters} | {"int8_mask"}
    for where, name in written_parameters(document.data):
        if name not in known and (hint := nearest(name, [each.name for each in method.parameters])):
            yield document.problem(where, f"`{name}` is no parameter of {config.merge_method}", hint)


def _unknown(data: Mapping[str, Any], where: Where = ()) -> Iterator[tuple[Where, str | None]]:
    """Keys that mergekit does not know: place, and which key they may be meant to be."""
    from mergekit import config
    from mergekit.tokenizer.config import TokenizerConfig

    known = set(config.MergeConfiguration.model_fields)
    yield from _unknown_keys(data, known, where)
    if isinstance(data.get("tokenizer"), Mapping):
        yield from _unknown_keys(data["tokenizer"], set(TokenizerConfig.model_fields), (*where, "tokenizer"))
    yield from _unknown_entries(data, where)
    for name, module in (
        (data.get("modules") or {}).items() if isinstance(data.get("modules"), Mapping) else ()
    ):
        if isinstance(module, Mapping):
            yield from _unknown_keys(
                module, set(config.OutputModuleDefinition.model_fields), (*where, "modules", name)
            )
            yield from _unknown_entries(module, (*where, "modules", name))


def _unknown_entries(data: Mapping[str, Any], where: Where) -> Iterator[tuple[Where, str | None]]:
    from mergekit import config

    for key, kind in (
        ("models", config.InputModelDefinition),
        ("slices", config.OutputSliceDefinition),
        ("sources", config.InputSliceDefinition),
    ):
        entries = data.get(key)
        for number, entry in enumerate(entries if isinstance(entries, list) else ()):
            if isinstance(entry, Mapping):
                place = (*where, key, number)
                yield from _unknown_keys(entry, set(kind.model_fields), place)
                yield from _unknown_entries(entry, place)


def _unknown_keys(
    data: Mapping[str, Any], known: set[str], where: Where
) -> Iterator[tuple[Where, str | None]]:
    for key in data:
        if key not in known:
            yield (*where, key), nearest(str(key), known)
