"""From suites to tasks that can run: every task with its data, local or the hub's, or the reason why not."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from tempfile import mkdtemp
from typing import Any
from zipfile import BadZipFile

from cpt.errors import DataError, UsageError
from evals import hub
from evals.local_data import DataFolder, Found
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
        config: complete, as lm-eval's `TaskManager.load` takes it. Local data are named by absolute paths.
        data: "hub", or the source's name and the first digits of the checksum of its local files.
    """

    suite: str
    level: Level
    entry: Entry
    config: dict[str, Any]
    data: str


def prepare(
    selections: Sequence[tuple[Suite, Level]], data: Path | None, cache: Path, *, offline: bool = False
) -> tuple[list[PreparedTask], list[LeftOut]]:
    """Give every task of some suites its data.

    Args:
        data: folder of the user's data sets; a task whose files are not there reads the hub.
        cache: where local data are kept in the form in which tasks read them.
        offline: leave the hub alone, as if HF_HUB_OFFLINE were set: only what it gave before is used.

    Returns:
        What can run, and what cannot, each in the suites' order.

    Raises:
        UsageError: the data folder is none or has a file twice, or a suite names what does not exist.
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
    """The data set of a task in its local form, and the part of it; None for a task of the hub alone."""
    if entry.source is None:
        return None
    name, _, part = entry.source.partition(":")
    return sources()[name], part or None


class _Unavailable(Exception):
    """Says why a task cannot run."""


def _refuse_mistakes(entries: Iterable[tuple[str, Entry]], folder: DataFolder | None) -> None:
    problems = list(dict.fromkeys(problem for pair in entries for problem in _mistakes(*pair, folder)))
    if problems:
        raise UsageError("\n".join(problems))


def _mistakes(suite: str, entry: Entry, folder: DataFolder | None) -> Iterator[str]:
    """What a suite or a data folder has wrong."""
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
    found = _found(entry, folder)
    for ending, files in found.ambiguous.items() if found else ():
        yield (
            f"{ending}: {len(files)} different files are called so: {', '.join(map(str, files))}\n"
            "  Name a folder by --data that has one of them."
        )


def _metric_mistake(where: str, entry: Entry) -> Iterator[str]:
    try:
        config = task_config(entry.task)
    except DataError:
        return  # said of the task when it is left out
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


def _found(entry: Entry, folder: DataFolder | None) -> Found | None:
    """What of the task's data lies in the folder; None without a folder or a local form."""
    local = source_of(entry)
    return None if folder is None or local is None else folder.find(*local)


def _with_data(
    entry: Entry, folder: DataFolder | None, cache: Path, *, offline: bool
) -> tuple[dict[str, Any], str]:
    config = _config(entry)
    found = _found(entry, folder)
    if found is not None and found.complete:
        return _local(config, found, cache), f"{found.source.name} {found.checksum()[:12]}"
    of_hub = _of_hub(config)
    if hub.is_loading_script(of_hub):
        raise _Unavailable(_why_not(hub.loading_script_message(of_hub), entry, folder, found))
    if offline and not _on_hub_before(of_hub):
        never = f"its data on the hub ({hub.data_origin(of_hub)}) were never fetched, and this is offline"
        raise _Unavailable(_why_not(never, entry, folder, found))
    return of_hub, "hub"


def _config(entry: Entry) -> dict[str, Any]:
    try:
        config = task_config(entry.task)
    except DataError as error:
        raise _Unavailable(str(error)) from None
    shots = entry.fewshot if entry.fewshot is not None else config.get("num_fewshot") or 0
    return {**config, "num_fewshot": shots} if shots else {**config, **_without_examples(config)}


def _without_examples(config: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of a prompt without examples: lm-eval need not list a whole split to choose none of it."""
    settings = {key: value for key, value in (config.get("fewshot_config") or {}).items() if key != "split"}
    return {"num_fewshot": 0, "fewshot_split": None, "fewshot_config": {**settings, "samples": []}}


def _of_hub(config: Mapping[str, Any]) -> dict[str, Any]:
    """The task without leave to run code that comes with the data, which may be read file by file."""
    options = config.get("dataset_kwargs") or {}
    safe = {key: value for key, value in options.items() if key != "trust_remote_code"}
    return hub.with_hub_paths({**config, "dataset_kwargs": safe})


def _local(config: Mapping[str, Any], found: Found, cache: Path) -> dict[str, Any]:
    """The task over rows of local files: the split that is scored, and the one of the examples, if any."""
    if "class" in config or config.get("custom_dataset") is not None:
        raise _Unavailable("the task reads its data by code of its own, not from local files")
    scored = "test_split" if config.get("test_split") else "validation_split"
    if not config.get(scored):
        raise _Unavailable("the task names no split that is scored")
    examples = _examples(config, scored)
    files = _written(found, cache)
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
    """The split that examples come from, by lm-eval's rule; None if the prompt has none from a split.

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


def _written(found: Found, cache: Path) -> dict[str, Path]:
    """The rows of a data set as one Parquet file for each split, made once for the same files.

    Parquet keeps types: through JSON, `datasets` would make dates of texts such as 2009-01-01.
    """
    source, part = found.source, found.part
    facts = f"{source.name}\n{source.version}\n{part or ''}\n{found.checksum()}"
    target = cache / "rows" / f"{source.name}-{hashlib.sha256(facts.encode()).hexdigest()[:16]}"
    if not target.is_dir():
        import pyarrow as pa

        try:
            _write(_rows(found), target)
        except pa.ArrowException as error:  # a column has values of several kinds
            raise _Unavailable(_strange(found, error)) from None
    return {file.stem: file for file in sorted(target.glob("*.parquet"))}


def _rows(found: Found) -> Mapping[str, Rows]:
    try:
        splits = found.source.read(found.files, found.part)
    except _UNREADABLE as error:
        raise _Unavailable(_strange(found, error)) from None
    return {split: rows for split, rows in splits.items() if rows}


def _strange(found: Found, error: Exception) -> str:
    names = ", ".join(str(file) for file in found.files.values())
    why = f"{type(error).__name__}: {error}" if isinstance(error, LookupError) else str(error)
    return f"{names}: not in the form of {found.source.title}: {why}"


def _write(splits: Mapping[str, Rows], target: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    target.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(mkdtemp(dir=target.parent, prefix="."))
    try:
        for split, rows in splits.items():
            if any(row.keys() != rows[0].keys() for row in rows):
                raise ValueError(f"rows of {target.name}, {split}, differ in their columns")
            pq.write_table(pa.Table.from_pylist(rows), aside / f"{split}.parquet")
        aside.rename(target)
    except OSError:
        if not target.is_dir():  # otherwise another process was first
            raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _on_hub_before(config: Mapping[str, Any]) -> bool:
    """Whether a data set from the hub has been kept, so that it can be read offline."""
    if (files := hub.is_cached(config)) is not None:
        return files
    import datasets
    from datasets.naming import camelcase_to_snakecase

    *owner, name = str(config.get("dataset_path")).split("/")
    kept = Path(datasets.config.HF_DATASETS_CACHE) / "___".join([*owner, camelcase_to_snakecase(name)])
    return any(kept.glob(f"{config.get('dataset_name') or '*'}/*/*/dataset_info.json"))


def _why_not(hub_says: str, entry: Entry, folder: DataFolder | None, found: Found | None) -> str:
    """Say why the hub gives no data, and which local files would."""
    local = source_of(entry)
    if local is None:
        return f"{hub_says}; it has no local form"
    source, part = local
    if folder is None or found is None:
        endings = ", ".join(source.endings(part).values())
        return f"{hub_says}; with --data DIR it reads {endings}"
    return f"{hub_says}; {folder.root} lacks {', '.join(found.missing)}"
