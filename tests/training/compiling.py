"""On a CPU: a compiler that makes no kernels and counts its graphs, flash attention, 8-bit products."""

from __future__ import annotations

import itertools
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from peft.import_utils import is_torchao_available
from torch._dynamo.backends.registry import lookup_backend
from torch.nn.attention import varlen as torch_varlen

from cpt.models import attention
from cpt.models.attention import varlen
from cpt.training import compilation, float8


class CountingCompiler:
    """A compiler of torch that runs graphs as they are. `aot_eager` also traces their backward passes."""

    def __init__(self, name: str) -> None:
        self.graphs, self._compile = 0, lookup_backend(name)

    def __call__(self, graph: Any, inputs: Any) -> Any:
        self.graphs += 1
        return self._compile(graph, inputs)


def counting_compiler(patch: pytest.MonkeyPatch, name: str = "eager") -> CountingCompiler:
    """Let layers be compiled by a compiler that counts, and needs no other."""
    found = CountingCompiler(name)
    torch._dynamo.reset()
    patch.setattr(compilation, "BACKEND", found)
    patch.setattr(compilation, "compiler_obstacle", lambda **_: None)
    return found


def without_kernels(patch: pytest.MonkeyPatch) -> None:
    """Let layers be compiled into graphs that run as they are."""
    patch.setattr(compilation, "BACKEND", "aot_eager")
    patch.setattr(compilation, "compiler_obstacle", lambda **_: None)


class EmulatedFloat8Linear(torch.nn.Linear):
    """A linear layer with the weight of another, which rounds input and weight to 8 bits."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.linear(_rounded(input), _rounded(self.weight), self.bias)


def _rounded(tensor: torch.Tensor) -> torch.Tensor:
    kind = torch.float8_e4m3fn
    scale = torch.finfo(kind).max / tensor.detach().abs().max().clamp(min=1e-12)
    exact = tensor.detach()
    return tensor + ((exact * scale).to(kind).to(tensor.dtype) / scale - exact)


def emulated_float8(patch: pytest.MonkeyPatch) -> None:
    """Let linear layers be converted as torchao does it, to layers that round on any processor."""

    def convert(model: Any, *, config: Any, module_filter_fn: Any) -> None:
        assert config.pad_inner_dim
        for holder in list(model.modules()):
            for name, part in list(holder.named_children()):
                if isinstance(part, torch.nn.Linear) and module_filter_fn(part, name):
                    made = EmulatedFloat8Linear(1, 1, part.bias is not None, device="meta")
                    made.__dict__.update(part.__dict__)
                    setattr(holder, name, made)

    is_torchao_available()  # peft asks once for a process, and would take the stand-in for the library
    module = ModuleType("torchao.float8")
    patch.setattr(module, "Float8LinearConfig", SimpleNamespace, raising=False)
    patch.setattr(module, "convert_to_float8_training", convert, raising=False)
    patch.setitem(sys.modules, "torchao", ModuleType("torchao"))
    patch.setitem(sys.modules, "torchao.float8", module)
    patch.setattr(float8, "float8_obstacle", lambda *_: None)


def kernel_on_cpu(patch: pytest.MonkeyPatch) -> None:
    """Let attention be torch's operation for packed documents, which gets a plain implementation for CPUs."""
    patch.setattr(attention, "_backend", lambda _: varlen.attend)
    torch_varlen._varlen_attn.register_kernel("cpu")(_forward)
    torch_varlen._varlen_attn_backward.register_kernel("cpu")(_backward)


def _weights(query: Any, key: Any, scale: float) -> torch.Tensor:
    """Attention weights [H, L, L] of queries and keys [L, H, E]."""
    hidden = torch.ones(len(query), len(query), dtype=torch.bool).triu(1)
    scores = query.transpose(0, 1) @ key.permute(1, 2, 0) * scale
    return scores.masked_fill(hidden, -torch.inf).softmax(-1)


def _forward(
    query: Any, key: Any, value: Any, ends: Any, _: Any, longest: int, *rest: Any, **named: Any
) -> Any:
    assert longest == int(ends.diff().max())
    _longest, _causal, scale, *_rest = rest
    groups = query.shape[1] // key.shape[1]
    key, value = (x.repeat_interleave(groups, 1) for x in (key, value))
    attended = torch.empty_like(query)
    for start, stop in itertools.pairwise(ends.tolist()):
        weights = _weights(query[start:stop], key[start:stop], scale)
        attended[start:stop] = (weights @ value[start:stop].transpose(0, 1)).transpose(0, 1)
    return attended, query.new_zeros(query.shape[1], len(query)), torch.zeros(2, dtype=torch.uint64)


def _backward(
    grad: Any, query: Any, key: Any, value: Any, _out: Any, _lse: Any, ends: Any, *rest: Any
) -> Any:
    _ends, _longest, _longest, _causal, _state, scale, *_rest = rest
    groups = query.shape[1] // key.shape[1]
    wide_key, wide_value = (x.repeat_interleave(groups, 1) for x in (key, value))
    grads = [torch.empty_like(x) for x in (query, wide_key, wide_value)]
    for start, stop in itertools.pairwise(ends.tolist()):
        q, k, v, g = (x[start:stop].transpose(0, 1) for x in (query, wide_key, wide_value, grad))
        weights = _weights(query[start:stop], wide_key[start:stop], scale)
        of_weights = g @ v.mT
        of_scores = weights * (of_weights - (of_weights * weights).sum(-1, keepdim=True)) * scale
        for into, part in zip(grads, (of_scores @ k, of_scores.mT @ q, weights.mT @ g), strict=True):
            into[start:stop] = part.transpose(0, 1)
    of_query, of_key, of_value = grads
    return of_query, *(x.unflatten(1, (-1, groups)).sum(2) for x in (of_key, of_value))
