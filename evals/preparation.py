"""Give every task of suites its data, local or the hub's, or the reason why it cannot run."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

from cpt.atomic import atomic_folder
from cpt.errors import DataError, UsageError
from cpt.halves import Half
from evals import hub
from evals.local_data import DataFolder, LocalDataset
from evals.registry import Entry, Level, Suite
from evals.results import LeftOut
from evals.sources import Rows, Source, sources
from evals.task_files import aggregation, metrics, task_config, task_files
from evals.task_scores import is_unsupported_aggregation

_UNREADABLE = (DataError, OSError, EOFError, BadZipFile, ValueError, LookupError, TypeError, AttributeError)
_SPLITS = ("test_split", "validation_split", "training_split")


@dataclass(frozen=True)
class PreparedTask:
    """A task that can run.

    Attributes:
        suite: Name of the suite.
        level: Level of the suite.
        entry: Task of the suite.
        config: Complete configuration, as lm-eval's `TaskManager.load` takes it, with absolute paths of local
            data.
        data: "hub", or the source's name and the first digits of the checksum of its local files.
        half: Half of the items that is scored (`evals.halves`); None for all items.
    """

    suite: str
    level: Level
    entry: Entry
    config: dict[str, Any]
    data: str
    half: Half | None = None


def prepare(
    selections: Sequence[tuple[Suite, Level]], data: Path | None, cache: Path, *, offline: bool = False
) -> tuple[list[PreparedTask], list[LeftOut]]:
    """Give every task of suites its data.

    Args:
        selections: Suites with their levels.
        data: Folder of the user's data sets; a task whose files are missing there reads the hub.
        cache: Folder for local data in the form in which tasks read them.
        offline: Use of the hub only as far as it was used before, as if HF_HUB_OFFLINE were set.

    Returns:
        Tasks that can run, and tasks that cannot, each in the suites' order.

    Raises:
        UsageError: The data folder does not exist or has a file twice, or a suite names what does not exist.
    """
    if data is not None and not data.is_dir():
        raise UsageError(f"{data} is not a folder", hint="--data takes the folder that holds the data sets.")
    folder = None if data is None else DataFolder(data)
    wanted = [(suite, level, entry) for suite, level in selections for entry in suite.at(level)]
    _refuse_mistakes([(suite.name, entry) for suite, _, entry in wanted], folder)
    ready: list[PreparedTask] = []
    left_out: list[LeftOut] = []
    for suite, level, entry in wanted:
        try:
            config, origin = _with_data(entry, folder, cache.absolute(), offline=offline or hub.is_offline())
        except _Unavailable as reason:
            left_out.append(LeftOut(task=entry.task, suite=suite.name, why=str(reason)))
        else:
            ready.append(PreparedTask(suite.name, level, entry, config, origin))
    return ready, left_out


def source_of(entry: Entry) -> tuple[Source, str | None] | None:
    """Return a task's data set in its local form, and the part of it; None for a task of the hub alone."""
    if entry.source is None:
        return None
    name, _, part = entry.source.partition(":")
    return sources()[name], part or None


class _Unavailable(Exception):
    """Reason why a task cannot run."""


def _refuse_mistakes(entries: Iterable[tuple[str, Entry]], folder: DataFolder | None) -> None:
    problems = list(dict.fromkeys(problem for pair in entries for problem in _mistakes(*pair, folder)))
    if problems:
        raise UsageError("\n".join(problems))


def _mistakes(suite: str, entry: Entry, folder: DataFolder | None) -> Iterator[str]:
    """Yield the mistakes of a suite or a data folder."""
    where = f"suite {suite}, task {entry.task}"
    if entry.task not in task_files():
        near = get_close_matches(entry.task, task_files(), n=1)
        yield f"{where}: no such task" + (f"; did you mean `{near[0]}`?" if near else "")
    else:
        yield from _metric_mistake(where, entry)
    if entry.source is None:
        return
    name, _, part = entry.source.partition(":")
    if name not in sources():
        yield f"{where}: no data set `{entry.source}`; there are: {', '.join(sources())}"
        return
    if not part and any("{part}" in ending for ending in sources()[name].files.values()):
        yield f"{where}: data set `{name}` has parts; name one of them: `{name}:PART`"
    found = _find_local(entry, folder)
    for ending, files in found.ambiguous.items() if found else ():
        yield (
            f"{ending}: {len(files)} different files are called so: {', '.join(map(str, files))}\n"
            "  Name a folder by --data that has one of them."
        )


def _metric_mistake(where: str, entry: Entry) -> Iterator[str]:
    try:
        config = task_config(entry.task)
    except DataError:
        return  # reported when the task is left out
    if "class" in config:
        return  # its metrics are known when it is loaded
    known, metric = metrics(config), entry.metric.partition(",")[0]
    if metric not in known:
        yield f"{where}: no metric `{metric}`; the task has {', '.join(known)}"
    elif is_unsupported_aggregation(aggregation(config, metric)):
        others = [other for other in known if not is_unsupported_aggregation(aggregation(config, other))]
        instead = f"; name another of its metrics: {', '.join(others)}" if others else ""
        yield (
            f"{where}: metric `{metric}` is aggregated by `{aggregation(config, metric)}`, of which no error "
            f"can be computed{instead}"
        )


def _find_local(entry: Entry, folder: DataFolder | None) -> LocalDataset | None:
    """Find the task's data in the folder; None without a folder or a local form."""
    local = source_of(entry)
    return None if folder is None or local is None else folder.find(*local)


def _with_data(
    entry: Entry, folder: DataFolder | None, cache: Path, *, offline: bool
) -> tuple[dict[str, Any], str]:
    config = _config(entry)
    found = _find_local(entry, folder)
    if found is not None and found.complete:
        return _over_local_files(config, found, cache), f"{found.source.name} {found.checksum()[:12]}"
    from_hub = _from_hub(config)
    if hub.is_loading_script(from_hub):
        raise _Unavailable(_why_not(hub.loading_script_message(from_hub), entry, folder, found))
    if offline and not _is_cached_from_hub(from_hub):
        never = f"its data on the hub ({hub.data_origin(from_hub)}) were never fetched, and this is offline"
        raise _Unavailable(_why_not(never, entry, folder, found))
    return from_hub, "hub"


def _config(entry: Entry) -> dict[str, Any]:
    try:
        config = task_config(entry.task)
    except DataError as error:
        raise _Unavailable(str(error)) from None
    shots = entry.fewshot if entry.fewshot is not None else config.get("num_fewshot") or 0
    return {**config, "num_fewshot": shots} if shots else {**config, **_without_examples(config)}


def _without_examples(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a prompt without examples, for which lm-eval then reads no split."""
    settings = {key: value for key, value in (config.get("fewshot_config") or {}).items() if key != "split"}
    return {"num_fewshot": 0, "fewshot_split": None, "fewshot_config": {**settings, "samples": []}}


def _from_hub(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a task over the hub's data, which may be read file by file; code with the data is not run."""
    options = config.get("dataset_kwargs") or {}
    safe = {key: value for key, value in options.items() if key != "trust_remote_code"}
    return hub.with_hub_paths({**config, "dataset_kwargs": safe})


def _over_local_files(config: Mapping[str, Any], found: LocalDataset, cache: Path) -> dict[str, Any]:
    """Return a task over local files: the split that is scored, and the split of the examples, if any."""
    if "class" in config or config.get("custom_dataset") is not None:
        raise _Unavailable("the task reads its data by code of its own, not from local files")
    scored = "test_split" if config.get("test_split") else "validation_split"
    if not config.get(scored):
        raise _Unavailable("the task names no split that is scored")
    examples = _examples(config, scored)
    files = _as_parquet(found, cache)
    needed = {config[scored]: "items", **({examples: "examples"} if examples else {})}
    for split, purpose in needed.items():
        if split not in files:
            raise _Unavailable(
                f"its {purpose} are of the split `{split}`; the local files of {found.source.title} lack it"
            )
    return {
        **{key: value for key, value in config.items() if key != "dataset_name"},
        **dict.fromkeys(_SPLITS),
        scored: config[scored],
        "fewshot_split": examples,
        "dataset_path": "parquet",
        "dataset_kwargs": {
            "data_files": {split: str(files[split]) for split in needed},
            "cache_dir": str(cache / "datasets"),
        },
    }


def _examples(config: Mapping[str, Any], scored: str) -> str | None:
    """Return the split of the examples, by lm-eval's rule; None if the prompt has none from a split.

    Raises:
        _Unavailable: lm-eval would show the item itself, with its answer, among the examples.
    """
    settings = config.get("fewshot_config") or {}
    named: str | None = settings.get("split") or config.get("fewshot_split")
    if named is None and settings.get("samples") is not None:
        return None
    split = named or config.get("training_split") or config.get("validation_split")
    taken_out = named is not None and named == config.get("test_split")  # the item, by lm-eval
    if split is None or (split == config[scored] and not taken_out):
        raise _Unavailable("it has no split for the examples of its prompt but the one that is scored")
    return split


def _as_parquet(found: LocalDataset, cache: Path) -> dict[str, Path]:
    """Write the rows of a data set as one Parquet file per split, once for the same files; return the files.

    Parquet keeps types: through JSON, `datasets` would turn texts such as 2009-01-01 into dates.
    """
    source, part = found.source, found.part
    facts = f"{source.name}\n{source.version}\n{part or ''}\n{found.checksum()}"
    target = cache / "rows" / f"{source.name}-{hashlib.sha256(facts.encode()).hexdigest()[:16]}"
    if not target.is_dir():
        import pyarrow as pa

        try:
            _write(_rows(found), target)
        except pa.ArrowException as error:  # a column has values of several kinds
            raise _Unavailable(_unexpected_form(found, error)) from None
    return {file.stem: file for file in sorted(target.glob("*.parquet"))}


def _rows(found: LocalDataset) -> Mapping[str, Rows]:
    try:
        splits = found.source.read(found.files, found.part)
    except _UNREADABLE as error:
        raise _Unavailable(_unexpected_form(found, error)) from None
    return {split: rows for split, rows in splits.items() if rows}


def _unexpected_form(found: LocalDataset, error: Exception) -> str:
    names = ", ".join(str(file) for file in found.files.values())
    why = f"{type(error).__name__}: {error}" if isinstance(error, LookupError) else str(error)
    return f"{names}: not in the form of {found.source.title}: {why}"


def _write(splits: Mapping[str, Rows], target: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with atomic_folder(target, durable=False, concurrent=True) as folder:
            for split, rows in splits.items():
                if any(row.keys() != rows[0].keys() for row in rows):
                    raise ValueError(f"rows of {target.name}, {split}, differ in their columns")
                pq.write_table(pa.Table.from_pylist(rows), folder / f"{split}.parquet")
    except OSError:
        if not target.is_dir():  # otherwise another process was first
            raise


def _is_cached_from_hub(config: Mapping[str, Any]) -> bool:
    """Return True if a data set was fetched from the hub before, so that it can be read offline."""
    if (files := hub.is_cached(config)) is not None:
        return files
    import datasets
    from datasets.naming import camelcase_to_snakecase

    *owner, name = str(config.get("dataset_path")).split("/")
    kept = Path(datasets.config.HF_DATASETS_CACHE) / "___".join([*owner, camelcase_to_snakecase(name)])
    return any(kept.glob(f"{config.get('dataset_name') or '*'}/*/*/dataset_info.json"))


def _why_not(hub_reason: str, entry: Entry, folder: DataFolder | None, found: LocalDataset | None) -> str:
    """Return why the hub gives no data, and which local files would."""
    local = source_of(entry)
    if local is None:
        return f"{hub_reason}; it has no local form"
    source, part = local
    if folder is None or found is None:
        endings = ", ".join(source.endings(part).values())
        return f"{hub_reason}; with --data DIR it reads {endings}"
    return f"{hub_reason}; {folder.root} lacks {', '.join(found.missing)}"
