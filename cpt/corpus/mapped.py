"""Read and extend plain numpy files: mapped into memory, and no file stays open."""

from __future__ import annotations

import errno
from pathlib import Path

import numpy as np

from cpt.errors import DataError

_LIMITS = {
    errno.EMFILE: "Too few files may be open in one process: raise the limit (ulimit -n 65536).",
    errno.ENFILE: "Too few files may be open on this machine: end other programs, or raise fs.file-max.",
    errno.ENOMEM: "Raise the system's limit of memory maps (sysctl vm.max_map_count).",
}
"""Remedy by error number of the system. Such an error does not mean that the file is damaged."""


def read_mapped(path: Path, kinds: str = "iu", dimensions: int = 1) -> np.ndarray:
    """Map a numpy file of one of the kinds of numbers into memory, read-only.

    numpy's own map keeps a file descriptor open as long as it lives: with the usual limit of 1,024 a process
    could read 341 shards of three files. Arrow closes the file and keeps the map, which is not writable and
    so counts against no limit of memory.

    Args:
        kinds: Letters of numpy's kinds of numbers: "iu" whole, "f" fractions.
        dimensions: Number of axes.

    Raises:
        DataError: The file is missing or damaged, or a limit of the system is reached.
    """
    try:
        return _mapped(path, kinds, dimensions)
    except OSError as error:
        if error.errno in _LIMITS:
            message = f"{path}: cannot be opened: {error.strerror}"
            raise DataError(message, hint=_LIMITS[error.errno]) from error
        raise DataError(f"{path}: damaged shard: {error}", hint="Run the stage again.") from error
    except ValueError as error:
        raise DataError(f"{path}: damaged shard: {error}", hint="Run the stage again.") from error


def _mapped(path: Path, kinds: str, dimensions: int) -> np.ndarray:
    import pyarrow

    with path.open("rb") as file:
        np.lib.format.read_magic(file)
        shape, _, dtype = np.lib.format.read_array_header_1_0(file)
        start = file.tell()
    if dtype.kind not in kinds or len(shape) != dimensions or not all(shape):
        raise ValueError("it does not hold the numbers that it should")
    expected, size = start + int(np.prod(shape)) * dtype.itemsize, path.stat().st_size
    if size != expected:
        raise ValueError(f"it has {size:,} bytes instead of {expected:,}")
    try:
        with pyarrow.memory_map(str(path), "r") as file:
            mapped = file.read_buffer()
    except OSError as error:
        if error.errno is not None:
            raise
        # the file is whole: only the system can refuse to map it
        raise OSError(errno.ENOMEM, "the system maps no more files into memory") from error
    return np.frombuffer(mapped, dtype, offset=start).reshape(shape)


def append(path: Path, values: np.ndarray) -> None:
    """Add entries to a numpy file of the same data type, or begin one.

    numpy leaves room in its header for a longer first axis.
    """
    if not path.exists():
        np.save(path, values)
        return
    with path.open("r+b") as file:
        np.lib.format.read_magic(file)
        shape, fortran_order, dtype = np.lib.format.read_array_header_1_0(file)
        start = file.tell()
        if dtype != values.dtype or shape[1:] != values.shape[1:]:
            raise ValueError(f"{path}: {dtype} of shape {shape} takes no {values.dtype} of {values.shape}")
        file.seek(0, 2)
        file.write(np.ascontiguousarray(values).tobytes())
        file.seek(0)
        header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": fortran_order}
        np.lib.format.write_array_header_1_0(file, header | {"shape": (shape[0] + len(values), *shape[1:])})
        if file.tell() != start:
            raise ValueError(f"{path}: the header has no room")
