"""Check a merge request, before and after its models are known."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from cpt.errors import CannotMerge
from merging.candidates import Candidate, alike, check_same_architecture
from merging.methods import Method, find_method
from merging.request import (
    AUTO,
    BASE,
    STORED,
    UNION,
    MergeRequest,
    unknown_parameters,
    wrong_values,
)

_FLOATS = ("float64", "float32", "float16", "bfloat16")


def check_fit(candidates: Sequence[Candidate]) -> list[str]:
    """Check that models have one architecture; return settings that differ, in words.

    Raises:
        CannotMerge: The message says what differs.
    """
    if len(candidates) < 2:
        return []
    return check_same_architecture(candidates, same_vocabulary=alike(candidates))


def check_request(request: MergeRequest) -> Method:
    """Check a request without its models, and return its method.

    Raises:
        CannotMerge: The problems name everything that is wrong.
    """
    method = find_method(request.method)
    problems = list(_problems(request, method))
    if problems:
        raise CannotMerge(problems)
    return method


def _problems(request: MergeRequest, method: Method) -> Iterator[str]:
    """Report what is wrong with a request by itself."""
    names = [model.name for model in request.inputs]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        yield f"two models of the merge are called {', '.join(twice)}"
    if method.base == "required" and request.base is None:
        yield f"{method.name} needs a base model"
    count, most = len(request.models), method.most
    if count < method.least or (most is not None and count > most):
        limit = f"at least {method.least}" if most is None else f"{method.least} to {most}"
        limit = f"exactly {most}" if most == method.least else limit
        yield f"{method.name} takes {limit} models apart from the base; there are {count}"
    base = (BASE,) if request.base else ()
    for key, choices in (("tokenizer", (AUTO, UNION, *base, *names)), ("settings", (None, *base, *names))):
        choice = getattr(request, key)
        if choice not in choices:
            yield f"{key}: there is no model called {choice!r}"
    for key, more in (("dtype", ()), ("compute_dtype", (STORED,))):
        choice = getattr(request, key)
        if choice is not None and choice not in (*_FLOATS, *more):
            yield f"{key} is {choice!r}; choose from {', '.join((*_FLOATS, *more))}"
    yield from unknown_parameters(request, method)
    yield from wrong_values(request, method)
