"""Merge language models: align their vocabularies, then do arithmetic on their task vectors.

Three calls do the common work. A model is a folder (also of a LoRA adapter), a hub id, a GGUF file, or a file
in a wheel:

    import merging

    merging.merge({"models/law": 0.8, "org/instruct": 0.3}, base="org/base", out="merged")
    merging.average(["run/step-200", "run/step-400"], out="averaged")
    merging.extract("models/law", base="org/base", out="adapter")

The modules have the steps one by one: `request` and `plan` (nothing is written yet), `run`, `search` for
weights by evaluation, `analysis` of task vectors.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cpt.progress import Progress
    from merging.extraction import Extraction
    from merging.request import InputModel
    from merging.run import MergeReport

__all__ = ["average", "extract", "merge"]

Model = str | Path
_MEGA = 1_000_000


def merge(
    models: Mapping[Model, float | Mapping[str, Any]],
    *,
    out: Model,
    base: Model | None = None,
    method: str = "task-arithmetic",
    tokenizer: str = "auto",
    settings: str | None = None,
    chat_template: str | None = None,
    dtype: str | None = None,
    compute_dtype: str | None = None,
    seed: int = 0,
    shard_size: str = "5GB",
    progress: Progress | None = None,
    **parameters: Any,
) -> MergeReport:
    """Merge models into a new Hugging Face folder, which is written whole or not at all.

    >>> merging.merge({"law": 0.8, "med": 0.5}, base="base", method="ties", density=0.6, out="merged")

    Args:
        models: Models with their weights, or with all their parameters: `{"law": {"weight": 0.8, "density":
            0.3}}`. A value may vary by layer or by tensor (`merging.request.MergeRequest`). The name of a
            model is the end of its reference.
        out: New folder for the result.
        base: Model that changes are measured from; some methods have none.
        method: Merge method; `merging.methods.methods()` lists them.
        tokenizer: Source of the result's vocabulary: "base", a model's name, "union" or "auto".
        settings: Source of the chat template and generation settings: "base" or a model's name.
        chat_template: Chat template (Jinja) instead of a model's.
        dtype: Data type of the result; None for the widest of the models.
        compute_dtype: Data type of the arithmetic; None for float64 in task arithmetic, else float32.
        seed: Seed of random methods.
        shard_size: Largest size of a weight file.
        progress: Receiver of the megabytes that are written.
        parameters: Parameters of the method for every model that has none of its own.

    Raises:
        CannotMerge: Models, method and parameters do not fit together, or there is something at `out`.
        ReferenceUnavailable: A model cannot be had.
        DataError: A model is damaged.
    """
    from merging.plan import plan
    from merging.request import MergeRequest, shard_bytes
    from merging.run import run

    named, base_model = _inputs(list(models), base, list(models.values()))
    request = MergeRequest(
        method=method,
        models=tuple(named),
        base=base_model,
        parameters=parameters,
        tokenizer=tokenizer,
        settings=settings,
        chat_template=chat_template,
        dtype=dtype,
        compute_dtype=compute_dtype,
        seed=seed,
    )
    return run(plan(request), out, shard_bytes=shard_bytes(shard_size), progress=_bytes_of(progress))


def average(
    models: Sequence[Model],
    *,
    out: Model,
    weights: Sequence[float] | None = None,
    dtype: str | None = None,
    progress: Progress | None = None,
) -> MergeReport:
    """Average models of one architecture, such as the checkpoints of a run, in float64.

    >>> merging.average(["law", "med"], weights=[0.25, 0.75], out="averaged")

    Args:
        models: Models, the oldest first.
        out: New folder for the result.
        weights: Weight of every model; None for equal weights. `merging.averaging` has those of an
            exponential moving average and of an average that stands for an anneal.
        dtype: Data type of the result; None for the widest of the models.
        progress: Receiver of the megabytes that are written.

    Raises:
        CannotMerge: The models do not fit together, or there is something at `out`.
        ReferenceUnavailable: A model cannot be had.
        DataError: A model is damaged.
    """
    from merging.averaging import average as averaged
    from merging.averaging import uniform
    from merging.plan import plan
    from merging.run import run

    named, _ = _inputs(models, None, [{}] * len(models))
    request = averaged(named, weights or uniform(len(named)), f"Average of {len(named)} models", dtype)
    return run(plan(request), out, progress=_bytes_of(progress))


def extract(
    model: Model,
    *,
    base: Model,
    out: Model,
    rank: int = 64,
    modules: Sequence[str] | None = None,
    low_rank_only: bool = False,
    progress: Progress | None = None,
) -> Extraction:
    """Extract the difference of a model from its base as a LoRA adapter that peft loads.

    >>> merging.extract("law", base="base", rank=4, out="adapter")

    Args:
        model: Model that was trained from the base.
        base: Model that it was trained from.
        out: New folder for the adapter.
        rank: Rank of every pair of factors.
        modules: Names of the matrices to take (q_proj); None for all matrices of the layers.
        low_rank_only: Leave out norms and rows of embeddings, which otherwise are stored whole.
        progress: Receiver of the number of tensors that are done.

    Raises:
        CannotMerge: The models do not fit together, or there is something at `out`.
        ReferenceUnavailable: A model cannot be had.
        DataError: A model is damaged.
    """
    from cpt.references import locate
    from merging.adapters import read_model, resolve_input
    from merging.extraction import write_adapter

    first = read_model("the base", resolve_input(str(base)))
    second = read_model("the model", resolve_input(str(model)))
    return write_adapter(
        first,
        second,
        rank,
        Path(out),
        modules=modules,
        low_rank_only=low_rank_only,
        base_name=locate(str(base), Path.cwd()),
        progress=None if progress is None else lambda done, total: progress.update(done, total, "tensors"),
    )


def _inputs(
    models: Sequence[Model], base: Model | None, settings: Sequence[float | Mapping[str, Any]]
) -> tuple[list[InputModel], InputModel | None]:
    """Return the models and the base in their folders, named, with fingerprints."""
    from cpt.references import fingerprint
    from merging.adapters import resolve_input
    from merging.request import InputModel, model_names

    references = [str(model) for model in models]
    base_name, names = model_names(
        [(None, reference) for reference in references], None if base is None else (None, str(base))
    )

    def model(name: str, reference: str, parameters: Mapping[str, Any]) -> InputModel:
        return InputModel(name, resolve_input(reference), fingerprint(reference), parameters)

    parameters = [dict(each) if isinstance(each, Mapping) else {"weight": each} for each in settings]
    found = [model(*each) for each in zip(names, references, parameters, strict=True)]
    return found, None if base_name is None else model(base_name, str(base), {})


def _bytes_of(progress: Progress | None) -> Callable[[int, int], None] | None:
    """Return a function that reports bytes as megabytes."""
    if progress is None:
        return None
    return lambda done, total: progress.update(done // _MEGA, total // _MEGA, "MB merged")
