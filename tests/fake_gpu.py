"""A GPU without numbers, on a machine that has none: a CPU sees which tensors would meet on two devices.

PyTorch's fake tensors have a shape and a device, and refuse operations on tensors of different devices as the
real ones do. What needs numbers (forward and backward passes, digests that are compared) is left out.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode, unset_fake_temporarily

from cpt.models import attention, bits_per_byte
from cpt.models.batch import TreeBatch
from cpt.monitor.probes import early_end, weights
from cpt.training import loop
from cpt.training.checkpoint.stateful import RandomNumbers
from cpt.training.checkpoint.store import Store
from cpt.training.checkpoint.stored import StoredTensor
from cpt.training.distributed.collectives import ProcessGroup
from cpt.training.features import proofs
from cpt.training.step import Gradient, Stepper
from cpt.training.trainable.adalora import RankAllocation
from cpt.training.trainable.lora import PeftAdapter

CUDA = torch.device("cuda", 0)
_GUARDS = "_ZN3c104impl26device_guard_impl_registryE"
_CPU, _CUDA = 0, 1
"""Places of device types in PyTorch's table of device guards."""


@contextmanager
def fake_gpu(patch: pytest.MonkeyPatch, faulty: Sequence[int] = ()) -> Iterator[None]:
    """Inside, `cpt.training.loop.train` has its model on a GPU of fake tensors, and writes no checkpoints.

    From the moment on that the model is there, all is fake: what is chosen on the CPU before is real.

    Args:
        faulty: steps (1 is the first) whose loss is not finite.
    """
    allow_guards()
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    connect, load, hold = ProcessGroup.__init__, StoredTensor.clone, loop.prepare_weights

    def connect_on_gpu(self: ProcessGroup, *args: Any) -> None:
        connect(self, *args)
        self.device = CUDA

    def load_fake(self: StoredTensor) -> torch.Tensor:
        with unset_fake_temporarily():
            real = load(self)
        return fake(mode, real)

    def hold_on_gpu(*args: Any) -> Any:
        inside.enter_context(mode)
        return hold(*args)

    def move(self: nn.Module, *where: Any, **named: Any) -> nn.Module:
        return _moved(self, mode, *where, *named.values())

    def gradient(self: Stepper, batch: Sequence[Any]) -> Gradient:
        for name, weight in self._trained.master_weights.items():
            if self._trained._master.parameters[name].requires_grad:
                weight.grad = torch.zeros_like(weight)
        self._trained.mask_grads()
        self._clip()
        step.append(len(step) + 1)
        return Gradient(float("nan") if step[-1] in faulty else 1.0, 1.0)

    step: list[int] = []
    patch.setattr(ProcessGroup, "__init__", connect_on_gpu)
    patch.setattr(loop, "prepare_weights", hold_on_gpu)
    patch.setattr(StoredTensor, "clone", load_fake)
    patch.setattr(loop, "choose_kernel", lambda *_: "")
    patch.setattr(Store, "save", lambda *_: None)
    patch.setattr(nn.Module, "to", move)
    patch.setattr(Stepper, "gradient", gradient)
    patch.setattr(proofs, "check_isolation", lambda *_: None)
    patch.setattr(proofs.MovementProof, "_prove", lambda _: None)
    patch.setattr(proofs, "_usual_size", lambda _: 1.0)
    patch.setattr(torch, "equal", lambda *_: False)
    patch.setattr(RandomNumbers, "load_state_dict", lambda *_: None)
    patch.setattr(PeftAdapter, "save", lambda *_: None)
    for needs_numbers in ("regularise", "allocate"):
        patch.setattr(RankAllocation, needs_numbers, lambda *_: None)
    with ExitStack() as inside:
        yield


@contextmanager
def read_on_gpu(patch: pytest.MonkeyPatch, model: nn.Module) -> Iterator[None]:
    """Inside, a model is on a GPU of fake tensors, and what is read from there is all ones.

    What is made on the CPU to be read, from texts and from files, is real until it is sent to the GPU.
    Attention is left out: its kernels are chosen by the lengths of documents, which are numbers.
    """
    allow_guards()
    mode = FakeTensorMode(allow_non_fake_inputs=True)

    def ones(tensor: torch.Tensor) -> torch.Tensor:
        with unset_fake_temporarily():
            return torch.ones(tensor.shape, dtype=tensor.dtype)

    def real(make: Callable[..., Any]) -> Callable[..., Any]:
        def made(*args: Any) -> Any:
            with unset_fake_temporarily():
                return make(*args)

        return made

    def sent(to: Callable[..., Any]) -> Callable[..., Any]:
        return lambda tensor, *args, **named: to(fake(mode, tensor), *args, **named)

    patch.setattr(bits_per_byte, "_pack", real(bits_per_byte._pack))
    patch.setattr(early_end, "pack", real(early_end.pack))
    patch.setattr(weights, "load_tensor", real(weights.load_tensor))
    patch.setattr(TreeBatch, "of", real(TreeBatch.of))
    patch.setattr(torch.Tensor, "to", sent(torch.Tensor.to))
    patch.setattr(torch.Tensor, "cpu", ones)
    patch.setattr(torch.Tensor, "__float__", lambda _: 1.0)
    patch.setattr(torch, "unique_consecutive", lambda x, **_: (x, torch.arange(len(x), device=x.device)))
    patch.setattr(torch, "searchsorted", lambda x, _: SimpleNamespace(tolist=lambda: [0, len(x)]))
    patch.setattr(attention, "attend_within_documents", lambda query, *_: query.transpose(1, 2))
    with mode, torch.no_grad():
        _moved(model, mode, CUDA)
        yield


def on_gpu(model: nn.Module) -> bool:
    """Whether all of a model is on the GPU."""
    return all(tensor.device == CUDA for tensor in (*model.parameters(), *model.buffers()))


def fake(mode: FakeTensorMode, tensor: torch.Tensor) -> torch.Tensor:
    """A tensor without its numbers, on the same device."""
    return tensor if mode.is_our_fake(tensor) else mode.from_tensor(tensor)


def _moved(module: nn.Module, mode: FakeTensorMode, *where: Any) -> nn.Module:
    """Do what `Module.to` does, with new parameters: fake ones cannot be exchanged. Tied ones stay so."""
    made: dict[torch.Tensor, torch.Tensor] = {}

    def move(tensor: torch.Tensor) -> torch.Tensor:
        if tensor not in made:
            moved = fake(mode, tensor.detach()).to(*where)
            parameter = isinstance(tensor, nn.Parameter)
            made[tensor] = nn.Parameter(moved, tensor.requires_grad) if parameter else moved
        return made[tensor]

    for each in module.modules():
        for kept in (each._parameters, each._buffers):
            for name, tensor in kept.items():
                kept[name] = None if tensor is None else move(tensor)  # type: ignore[assignment]
    return module


def allow_guards() -> None:
    """Let a PyTorch that was built without CUDA switch to a GPU and back, which does nothing on fakes.

    One that was built with it, and finds no GPU, does the same by itself under `FakeTensorMode`.
    """
    if torch.version.cuda is not None:
        return
    library = ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / "libc10.so"))
    try:
        guards = (ctypes.c_void_p * (_CUDA + 1)).in_dll(library, _GUARDS)
    except ValueError:
        pytest.skip(f"PyTorch {torch.__version__} keeps its device guards elsewhere")
    guards[_CUDA] = guards[_CUDA] or guards[_CPU]
