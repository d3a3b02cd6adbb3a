"""Compile the layers of a model (torch.compile), so that norms, rotations and products share kernels.

On a GPU attention is one operation of a layer's graph. Elsewhere attention runs as it is, between the parts
of a layer that are compiled: its loops follow the lengths of documents, which differ from row to row.

Only a layer's `forward` is compiled, so hooks stay outside: those of FSDP2 gather the weights before it, and
the order of compiling and sharding does not matter. Activation checkpointing goes around the compiled
function. All layers of a kind share their graphs, which take any number of tokens.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from cpt.errors import StageFailed

if TYPE_CHECKING:
    from cpt.training.settings import Settings

BACKEND = "inductor"
"""Name of torch's compiler."""

_GRAPHS = 64
"""Largest number of graphs of one function: training or reading, packed rows or trees, each window of
attention, each set of weights that train. Gemma with adapters has more than the 8 that are torch's limit."""

_FALSE = "Set compile: false."


def compiler_obstacle(*, on_gpu: bool) -> str | None:
    """Return why this machine cannot compile layers for its GPU, or for its CPU; None if it can."""
    if on_gpu:
        from torch.utils._triton import has_triton

        if not has_triton():
            return "compiled layers need Triton, and there is none for this GPU"
    if compiler(on_gpu=on_gpu):
        return None
    return f"compiled layers need one of the compilers {', '.join(_compilers(on_gpu))}, and none is installed"


def compiler(*, on_gpu: bool) -> str | None:
    """Return the path of the compiler with which Triton starts kernels, or with which kernels are made."""
    chosen = os.environ.get("CC" if on_gpu else "CXX")
    names = [chosen] if chosen else _compilers(on_gpu)
    return next((path for name in names if (path := shutil.which(name))), None)


def _compilers(on_gpu: bool) -> list[str]:
    if sys.platform == "win32":
        return ["cl"]
    return ["gcc", "clang"] if on_gpu else ["g++", "clang++", "c++"]


def compiles_here(model: Any, settings: Settings, say: Callable[[str], None]) -> bool:
    """Return True if the layers of a model are to be compiled; with `auto`, say why if they cannot be.

    Args:
        model: Model that trains.
        settings: Settings of the run.
        say: Function that shows a message.

    Raises:
        StageFailed: The settings demand it, and it cannot be done.
    """
    from cpt.training.activation_checkpointing import decoder_layers

    if not settings.compiles:
        return False
    reason = compiler_obstacle(on_gpu=settings.on_gpu)
    if reason is None and not decoder_layers(model):
        reason = f"the layers of {type(model).__name__} are not known"
    if reason is None:
        say("the model's layers are compiled in the first step, which takes longer")
        return True
    if settings.config.compile == "auto":
        say(f"the model's layers are not compiled, so training is slower: {reason}")
        return False
    raise StageFailed(reason, hint=_FALSE)


def compile_layers(model: Any) -> None:
    """Compile every layer of a model; this happens when it is called for the first time.

    Results are those of the model as it was, but for the rounding of float32 sums, and of values that are no
    longer stored in bfloat16 in between.
    """
    import torch._dynamo
    import torch._inductor.config

    from cpt.training.activation_checkpointing import decoder_layers

    chosen: Any = torch._dynamo.config
    limit = "recompile_limit" if hasattr(chosen, "recompile_limit") else "cache_size_limit"  # until 2.6
    setattr(chosen, limit, max(_GRAPHS, getattr(chosen, limit)))
    if hasattr(torch._inductor.config, "deterministic"):
        # else kernels are chosen by their speed, and a process that goes on may choose others
        torch._inductor.config.deterministic = torch.are_deterministic_algorithms_enabled()
    for layer in decoder_layers(model):
        layer.forward = torch.compile(layer.forward, dynamic=True, backend=BACKEND)


@contextmanager
def compilation(*, of_passes: bool) -> Iterator[None]:
    """Turn errors of torch's compiler in the block into one that says what to do.

    Args:
        of_passes: True to compile the loss's passes over logits, too.

    Raises:
        StageFailed: The compiler failed.
    """
    try:
        if of_passes:
            from cpt.models.loss import compiled_passes

            with compiled_passes(BACKEND):
                yield
        else:
            yield
    except RuntimeError as error:
        from torch._dynamo.exc import TorchDynamoException

        if not isinstance(error, TorchDynamoException):
            raise
        reason = " ".join(str(error).strip().splitlines()[:2]) or type(error).__name__
        raise StageFailed(f"the model's layers cannot be compiled: {reason}", hint=_FALSE) from error
