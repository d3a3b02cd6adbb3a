"""`import merging`: one call each, as the docstrings show them."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from merge_models import weights, write_model

import merging
from cpt.errors import CannotMerge, MissingInput


@pytest.fixture(autouse=True)
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`base`, `law` and `med` in the working folder."""
    for seed, name in enumerate(("base", "law", "med"), start=1):
        write_model(tmp_path / name, seed)
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("call", [merging.merge, merging.average, merging.extract])
def test_the_example_of_each_docstring_runs(call: Callable[..., object]) -> None:
    assert call.__name__ in merging.__all__
    (example,) = re.findall(r">>> (.+)", str(call.__doc__))
    eval(example, {"merging": merging})
    assert any(Path(folder).is_dir() for folder in ("merged", "averaged", "adapter"))


def test_a_merge_is_what_its_arguments_say() -> None:
    report = merging.merge(base=Path("base"), models={"law": 0.5, Path("med"): {"weight": 0.25}}, out="O")
    base, law, med = (weights(Path(name)) for name in ("base", "law", "med"))
    for name, found in weights(Path("O")).items():
        expected = base[name] + 0.5 * (law[name] - base[name]) + 0.25 * (med[name] - base[name])
        torch.testing.assert_close(found, expected)
    assert report.method == "task-arithmetic"
    assert "| law | 0.5 | `" in Path("O/README.md").read_text()


def test_an_average_has_equal_weights_by_default() -> None:
    merging.average(["law", Path("med")], out=Path("O"), dtype="float64")
    law, med = (weights(Path(name)) for name in ("law", "med"))
    for name, found in weights(Path("O")).items():
        torch.testing.assert_close(found, (law[name].double() + med[name].double()) / 2)


def test_an_extracted_adapter_can_be_merged() -> None:
    held = merging.extract("law", base="base", rank=16, out="adapter").kept
    merging.merge({"adapter": 1.0}, base="base", out="O")
    assert held == pytest.approx(1, abs=1e-6)
    for name, found in weights(Path("O")).items():
        torch.testing.assert_close(found, weights(Path("law"))[name], rtol=1e-4, atol=1e-5)


def test_mistakes_are_exceptions_of_the_family() -> None:
    with pytest.raises(MissingInput, match="no such file or folder"):
        merging.merge({"lwa": 1.0}, base="base", out="O")
    with pytest.raises(CannotMerge, match="needs a base model"):
        merging.merge({"law": 1.0}, out="O")
    with pytest.raises(CannotMerge, match="density is no parameter"):
        merging.merge({"law": 1.0}, base="base", density=0.5, out="O")
    assert not Path("O").exists()
