"""Write a merged model: weights, configuration, tokenizer, checksums; the folder is whole or not there.

The content of each weight file is known beforehand, so its header is written first and the tensors' bytes
follow one by one; nothing is kept in memory.
"""

from __future__ import annotations

import copy
import errno
import hashlib
import json
import queue
import shutil
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import BinaryIO

import numpy as np
import torch

from cpt.atomic import atomic_folder
from cpt.errors import CannotMerge, DiskFull, StageFailed
from cpt.models import tokenizer as files
from cpt.models.folder_files import INDEX, SINGLE
from cpt.models.loading import generates, read_config
from cpt.models.token_ids import GENERATION, SUPPRESSED, IdMap, never_sampling, read_generation
from cpt.models.vocabulary import write_json
from merging.candidates import Candidate
from merging.kernels import TensorPlan
from merging.plan import Plan

CHECKSUMS = "SHA256SUMS"
"""File with checksums; `sha256sum -c SHA256SUMS` checks a folder."""

_STORED = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
_WAITING = 8


@dataclass(frozen=True)
class Shard:
    """A weight file and its tensors, in order."""

    file: str
    tensors: tuple[TensorPlan, ...]


def size_of(tensor: TensorPlan) -> int:
    """Return the bytes of a tensor of the result."""
    return int(np.prod(tensor.shape, dtype=np.int64)) * tensor.dtype.itemsize


def shards(tensors: Sequence[TensorPlan], shard_bytes: int) -> list[Shard]:
    """Divide tensors among files of at most `shard_bytes`; a larger tensor gets a file of its own."""
    groups: list[list[TensorPlan]] = [[]]
    filled = 0
    for tensor in tensors:
        if groups[-1] and filled + size_of(tensor) > shard_bytes:
            groups.append([])
            filled = 0
        groups[-1].append(tensor)
        filled += size_of(tensor)
    # wide types first, so that every tensor begins at a multiple of its item's size
    ordered = [sorted(group, key=lambda tensor: -tensor.dtype.itemsize) for group in groups]
    if len(groups) == 1:
        return [Shard(SINGLE, tuple(ordered[0]))]
    return [
        Shard(f"model-{number:05d}-of-{len(groups):05d}.safetensors", tuple(group))
        for number, group in enumerate(ordered, start=1)
    ]


def write_weights(folder: Path, layout: Sequence[Shard], checksums: dict[str, str]) -> Iterator[TensorPlan]:
    """Merge and write every tensor; yield each one once it is on its way to the disk.

    Args:
        folder: Folder of the result.
        layout: Weight files.
        checksums: Receives the SHA-256 of each file's written bytes, by file name.
    """
    for shard in layout:
        with (folder / shard.file).open("wb") as file:
            behind = _WriteBehind(file)
            try:
                behind.write(_header(shard.tensors))
                for tensor in shard.tensors:
                    for chunk in tensor.chunks():
                        behind.write(_bytes(chunk))
                    yield tensor
            finally:
                checksums[shard.file] = behind.finish()
    if len(layout) > 1:
        _write_index(folder, layout)


def write_checksums(folder: Path, known: Mapping[str, str] = MappingProxyType({})) -> dict[str, str]:
    """Write the SHA-256 of every file of a folder in sha256sum's format; return them by file name.

    Args:
        folder: Folder of the result.
        known: Checksums that are known already, by file name.
    """
    files = sorted(path for path in folder.iterdir() if path.is_file() and path.name != CHECKSUMS)
    sums = {path.name: known.get(path.name) or _sha256(path) for path in files}
    text = "".join(f"{digest}  {name}\n" for name, digest in sums.items())
    (folder / CHECKSUMS).write_text(text, encoding="utf-8")
    return sums


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _header(tensors: Iterable[TensorPlan]) -> memoryview:
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for tensor in tensors:
        header[tensor.name] = {
            "dtype": _STORED[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [offset, offset + size_of(tensor)],
        }
        offset += size_of(tensor)
    encoded = json.dumps(header, separators=(",", ":")).encode()
    encoded += b" " * (-len(encoded) % 8)
    return memoryview(len(encoded).to_bytes(8, "little") + encoded)


def _write_index(folder: Path, layout: Sequence[Shard]) -> None:
    index = {
        "metadata": {"total_size": sum(size_of(tensor) for shard in layout for tensor in shard.tensors)},
        "weight_map": {tensor.name: shard.file for shard in layout for tensor in shard.tensors},
    }
    (folder / INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


def _bytes(chunk: torch.Tensor) -> memoryview:
    return chunk.contiguous().flatten().view(torch.uint8).numpy().data


class _WriteBehind:
    """A writer that writes to a file in a thread of its own, a few chunks behind."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._queue: queue.Queue[memoryview | None] = queue.Queue(maxsize=_WAITING)
        self._error: OSError | None = None
        self._digest = hashlib.sha256()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def write(self, content: memoryview) -> None:
        """Queue some bytes.

        Raises:
            OSError: Earlier bytes could not be written.
        """
        if self._error is not None:
            raise self._error
        self._queue.put(content)

    def finish(self) -> str:
        """Wait until all is written, and return its SHA-256."""
        self._queue.put(None)
        self._thread.join()
        if self._error is not None:
            raise self._error
        return self._digest.hexdigest()

    def _work(self) -> None:
        while (content := self._queue.get()) is not None:
            if self._error is None:
                try:
                    self._file.write(content)
                    self._digest.update(content)
                except OSError as error:
                    self._error = error


def write_settings(plan: Plan, output: Path) -> None:
    """Write configuration, tokenizer, generation settings and chat template beside the weights."""
    _write_config(plan, output)
    _write_tokenizer(plan, output)
    _write_generation(plan, output)


def _write_config(plan: Plan, output: Path) -> None:
    config = copy.deepcopy(dict(plan.vocabulary_of.config))
    config["torch_dtype" if "torch_dtype" in config else "dtype"] = str(plan.dtype).removeprefix("torch.")
    text = config.get("text_config")
    parts = [part for part in (config, text) if isinstance(part, dict)]
    for part in parts:
        if "vocab_size" in part:
            part["vocab_size"] = plan.rows
    if (ids := _id_map(plan, plan.vocabulary_of)) is not None:
        for part in parts:
            part.update(ids.settings(part))
    if plan.tied is False and plan.vocabulary_of.tensors.tied:
        config["tie_word_embeddings"] = False
    write_json(output / "config.json", config)


def _write_tokenizer(plan: Plan, output: Path) -> None:
    source = plan.vocabulary_of.tokenizer_folder
    files.copy_settings(source, output)
    if plan.tokenizer is None:
        shutil.copyfile(source / files.FILE, output / files.FILE)
    else:
        files.write_data(output, plan.tokenizer)
        files.load_as_written(output)
        (output / files.ADDED).unlink(missing_ok=True)
    template = plan.request.chat_template
    if template is None and plan.settings_of is plan.vocabulary_of:
        return
    settings = files.read_settings(output / files.CONFIG)
    if settings.pop("chat_template", None) is not None:
        files.write_settings(output / files.CONFIG, settings)
    (output / "chat_template.json").unlink(missing_ok=True)
    (output / files.TEMPLATE).unlink(missing_ok=True)
    template = files.chat_template(plan.settings_of.tokenizer_folder) if template is None else template
    if template is not None:
        (output / files.TEMPLATE).write_text(template, encoding="utf-8")


def _write_generation(plan: Plan, output: Path) -> None:
    """Write the generation settings with ids of the result; what has no token there is never sampled."""
    settings = read_generation(plan.settings_of.folder)
    if (ids := _id_map(plan, plan.settings_of)) is not None:
        settings |= ids.settings(settings)
    unused = _never_sampled(plan)
    if unused and generates(plan.vocabulary_of.folder):
        settings = never_sampling(settings, unused, read_config(output))
    if settings:
        write_json(output / GENERATION, settings)


def _never_sampled(plan: Plan) -> set[int]:
    """Return the rows without a token that must never be sampled.

    In a union these are all of them; in a model's vocabulary those that the model itself suppresses.
    """
    unused = set(range(plan.rows)) - set(plan.ids.values())
    if plan.tokenizer is None:
        unused &= set(read_generation(plan.vocabulary_of.folder).get(SUPPRESSED) or ())
    return unused


def _id_map(plan: Plan, model: Candidate) -> IdMap | None:
    """Return the result's ids by a model's; None if all are the same.

    Every id follows its token, a special one that the result spells otherwise by its role. Rows without a
    token keep their place in the vocabulary that the result begins with, unless a token is there now.
    """
    if plan.alignment is None or model.vocabulary.same_rows(plan.alignment.target):
        return None
    target = plan.alignment.target
    ids, used = target.ids, set(target.ids.values())
    by_role = {token: as_ for name, token, as_ in plan.alignment.by_role if name == model.name}
    rows = {}
    if model is plan.vocabulary_of:
        rows = {row: row for row in range(target.rows) if row not in used}
    for token, number in model.tokens.items():
        if (spelt := by_role.get(token, token)) in ids:
            rows[number] = ids[spelt]
    return IdMap(rows, {}, {role: ids[token] for role, token in target.roles.items() if token in ids})


_MARGIN = 2**26


def check_free(output: Path) -> None:
    """Check that nothing stands in the place of the result.

    Raises:
        CannotMerge: There is something.
    """
    if output.is_symlink() or (output.exists() and (not output.is_dir() or any(output.iterdir()))):
        raise CannotMerge([f"{output} exists already"], hint="Choose another folder, or remove it first.")


@contextmanager
def atomic_model_folder(output: Path, needed: int) -> Iterator[Path]:
    """Fill a hidden folder beside the output that takes its place, flushed, if all goes well.

    Otherwise nothing is left of the folder, nor of folders made to hold it. Remains of a killed merge are
    removed first.

    Args:
        output: Folder of the result.
        needed: Bytes that will be written.

    Raises:
        CannotMerge: There is something at `output`, or its folder cannot be written to.
        DiskFull: The result does not fit on the disk.
        StageFailed: The result cannot be written.
    """
    check_free(output)
    output = output.absolute()
    writable = False
    try:
        with atomic_folder(output) as folder:
            writable = True
            _require_space(output, folder, needed)
            yield folder
    except OSError as error:
        if not writable:
            raise CannotMerge([f"nothing can be written beside {output}: {error.strerror}"]) from error
        if error.errno == errno.ENOSPC:
            raise DiskFull(output.parent, needed, shutil.disk_usage(output.parent).free) from error
        raise StageFailed(f"the merge cannot be written to {output}: {error.strerror}") from error


def _require_space(output: Path, folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < needed + _MARGIN:
        raise DiskFull(output.parent, needed, free)
