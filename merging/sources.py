"""Read tensors some rows at a time: from files, or rows of another source in a new order."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from cpt.errors import ModelError
from cpt.models.weights import StoredTensor

_STORED = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
_EXPONENT = {
    torch.float64: (torch.int64, 0x7FF0_0000_0000_0000),
    torch.float32: (torch.int32, 0x7F80_0000),
    torch.float16: (torch.int16, 0x7C00),
    torch.bfloat16: (torch.int16, 0x7F80),
}


class Source(Protocol):
    """A tensor that is read row by row; one without dimensions is read as one row.

    Attributes:
        shape: Shape of the whole tensor.
        dtype: Data type in which a merge of such tensors is stored; `read` may return a wider one.
    """

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> torch.dtype: ...

    def read(self, start: int, stop: int) -> torch.Tensor:
        """Read rows start … stop - 1: [stop - start, *shape[1:]].

        Raises:
            ModelError: They cannot be read, or hold values that are no finite numbers.
        """
        ...


@dataclass(frozen=True)
class FileSource:
    """A tensor in a safetensors file. Bytes are read, not mapped, so that memory holds only these rows."""

    name: str
    stored: StoredTensor

    @property
    def shape(self) -> tuple[int, ...]:
        return self.stored.shape

    @property
    def dtype(self) -> torch.dtype:
        return _STORED[self.stored.dtype]

    def read(self, start: int, stop: int) -> torch.Tensor:
        rest = self.shape[1:]
        row_bytes = int(np.prod(rest, dtype=np.int64)) * self.dtype.itemsize
        content = torch.empty((stop - start) * row_bytes, dtype=torch.uint8)
        self._fill(content.numpy().data, self.stored.start + start * row_bytes)
        rows = content.view(self.dtype).view(stop - start, *rest)
        if not is_finite(rows):
            raise ModelError(
                f"{self.stored.file}: {self.name} holds NaN or infinite values",
                hint="The model is damaged, or its training diverged; merge an earlier checkpoint.",
            )
        return rows

    def _fill(self, buffer: memoryview, offset: int) -> None:
        try:
            descriptor = os.open(self.stored.file, os.O_RDONLY)
        except OSError as error:
            raise ModelError(f"{self.stored.file} cannot be read: {error.strerror}") from error
        try:
            done = 0
            while done < len(buffer):
                count = os.preadv(descriptor, [buffer[done:]], offset + done)
                if count == 0:
                    raise ModelError(f"{self.stored.file} ends within {self.name}: the file is truncated")
                done += count
        finally:
            os.close(descriptor)


def file_source(name: str, stored: StoredTensor) -> FileSource:
    """Return a stored tensor as a source.

    Raises:
        ModelError: The tensor is stored in a type that cannot be merged (quantised weights).
    """
    if stored.dtype not in _STORED:
        raise ModelError(
            f"{stored.file}: {name} is stored as {stored.dtype}, which cannot be merged",
            hint="Merge the model before it is quantised.",
        )
    return FileSource(name, stored)


@dataclass(frozen=True, eq=False)
class RowsOf:
    """Some rows of another source, in any order.

    Attributes:
        source: Tensor that the rows come from.
        rows: Row of the source for each row of this tensor: [R] int64.
    """

    source: Source
    rows: np.ndarray

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.rows), *self.source.shape[1:])

    @property
    def dtype(self) -> torch.dtype:
        return self.source.dtype

    def read(self, start: int, stop: int) -> torch.Tensor:
        wanted = self.rows[start:stop]
        runs = np.split(wanted, np.flatnonzero(np.diff(wanted) != 1) + 1)
        return torch.cat([self.source.read(int(run[0]), int(run[-1]) + 1) for run in runs])


def rows_of(source: Source, rows: np.ndarray) -> Source:
    """Return some rows of a source; the source itself where they are all of its rows in order."""
    same = len(rows) == source.shape[0] and bool((rows == np.arange(len(rows))).all())
    return source if same else RowsOf(source, rows)


def is_finite(tensor: torch.Tensor) -> bool:
    """Return True if a tensor holds finite numbers only; the bits of the exponents tell, which is fast."""
    if not tensor.is_floating_point() or not tensor.numel():
        return True
    whole, mask = _EXPONENT[tensor.dtype]
    return bool((tensor.contiguous().view(whole) & mask).max() != mask)
