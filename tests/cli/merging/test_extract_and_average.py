"""`cpt merge extract` and `cpt merge average`: what they write, print and refuse."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tiny import write_tiny_model
from transformers import AutoModelForCausalLM

from cpt.cli.merging.average import by_number
from cpt.recipe.store import Record, Store

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def cpt(called: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """Call the command in a folder of its own: exit code, standard output, standard error."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CPT_RUNS", raising=False)
    return called


def read(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


@pytest.fixture
def models(tmp_path: Path) -> list[Path]:
    return [write_tiny_model(tmp_path / f"step-{number}", seed=number) for number in (2, 10, 30)]


@pytest.fixture
def trained(tiny_model: Path, tmp_path: Path) -> Path:
    """The tiny model with changes of rank 2, and another norm."""
    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    torch.manual_seed(1)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.ndim == 2 and "embed" not in name:
                weight += 0.1 * torch.randn(weight.shape[0], 2) @ torch.randn(2, weight.shape[1])
        model.model.norm.weight += 0.5
    model.save_pretrained(tmp_path / "trained")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / "trained" / name).write_bytes((tiny_model / name).read_bytes())
    return tmp_path / "trained"


def test_an_extracted_adapter_gives_the_model_back(cpt: Command, tiny_model: Path, trained: Path) -> None:
    code, text, _ = cpt(
        "merge", "extract", str(trained), "--base", str(tiny_model), "--rank", "2", "--out", "a"
    )
    assert code == 0
    assert "holds 100.00% of the difference's norm" in text
    lines = [line.split() for line in text.splitlines()]
    assert ["self_attn.q_proj", "low", "rank", "2"] in [line[:4] for line in lines]
    assert cpt("merge", "--base", str(tiny_model), "--add", "a:1", "--out", "again")[0] == 0
    expected = read(trained)
    for name, tensor in read(Path("again")).items():
        torch.testing.assert_close(tensor, expected[name], rtol=1e-5, atol=1e-6)


def test_options_of_extraction_change_the_adapter(cpt: Command, tiny_model: Path, trained: Path) -> None:
    def facts(*options: str, out: str) -> Any:
        words = ("merge", "extract", str(trained), "--base", str(tiny_model), "--out", out, "--json")
        code, text, _ = cpt(*words, *options)
        assert code == 0
        return json.loads(text)

    plain = facts("--rank", "2", out="a")
    assert plain["kept"] == pytest.approx(1)
    smaller = facts("--rank", "1", out="b")
    assert smaller["kept"] < 1
    assert smaller["numbers"] < plain["numbers"]
    one = facts("--rank", "2", "--modules", "q_proj", out="c")
    assert {each["tensor"] for each in one["tensors"] if each["how"] == "low rank"} == {
        f"model.layers.{layer}.self_attn.q_proj.weight" for layer in (0, 1)
    }
    bare = facts("--rank", "2", "--low-rank-only", out="d")
    assert [each["tensor"] for each in bare["tensors"] if each["how"] == "left out"] == ["model.norm.weight"]


def test_extraction_refuses_what_does_not_fit_and_writes_nothing(
    cpt: Command, tiny_model: Path, trained: Path
) -> None:
    code, _, message = cpt("merge", "extract", str(trained), "--base", str(tiny_model), "--out", str(trained))
    assert (code, "exists already" in message) == (2, True)
    smaller = write_tiny_model(Path("smaller"), vocabulary=280)
    for words, said in (
        ((str(smaller), "--base", str(tiny_model)), "lacks 20 of the base's tokens"),
        ((str(trained), "--base", "nowhere/at/all"), "base"),
        (
            (str(trained), "--base", str(tiny_model), "--modules", "wq"),
            "no matrix of the layers is called wq",
        ),
        ((str(tiny_model), "--base", str(tiny_model)), "none of the selected matrices"),
    ):
        code, _, message = cpt("merge", "extract", *words, "--out", "a")
        assert code == 2, message
        assert said in message
        assert not Path("a").exists()


def test_folders_are_averaged_in_the_order_of_their_numbers(cpt: Command, models: list[Path]) -> None:
    names = [path.name for path in (models[1], models[2], models[0])]
    code, text, _ = cpt("merge", "average", *names, "--kind", "ema", "--decay", "0.5", "--out", "mean")
    assert code == 0
    assert "step-2 0.1429, step-10 0.2857, step-30 0.5714" in text
    old, middle, new = (read(path) for path in models)
    for name, tensor in read(Path("mean")).items():
        expected = (old[name].double() + 2 * middle[name].double() + 4 * new[name].double()) / 7
        torch.testing.assert_close(tensor, expected.float(), rtol=1e-6, atol=1e-9)
    card = Path("mean/README.md").read_text()
    assert "cpt merge average step-10 step-30 step-2 --kind ema --decay 0.5 --out mean" in card


def test_the_latest_folders_and_the_data_type(cpt: Command, models: list[Path]) -> None:
    names = [path.name for path in models]
    words = ("merge", "average", *names, "--kind", "lawa", "--last", "2", "--dtype", "bfloat16")
    assert cpt(*words, "--out", "mean")[0] == 0
    _, middle, new = (read(path) for path in models)
    for name, tensor in read(Path("mean")).items():
        assert torch.equal(tensor, ((middle[name].double() + new[name].double()) / 2).bfloat16())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--kind", "mean"], "--kind"),
        (["--kind", "lawa"], "--last: lawa needs it"),
        (["--kind", "lawa", "--last", "9"], "there are 3 models, and 9 are to be averaged"),
        (["--kind", "soup", "--decay", "0.5"], "--decay: soup has no such setting"),
        (["--kind", "ema", "--decay", "2"], "--decay"),
        (["--kind", "wsd", "--decay", "2"], "--decay"),
        (["--kind", "soup", "--stage", "pretrain"], "--stage goes with a run"),
        (["--kind", "soup", "--dtype", "int3"], "dtype is 'int3'"),
    ],
)
def test_mistakes_in_an_average_are_explained(
    options: list[str], message: str, cpt: Command, models: list[Path]
) -> None:
    code, _, said = cpt("merge", "average", *(path.name for path in models), *options, "--out", "mean")
    assert code == 2
    assert message in said
    assert not Path("mean").exists()


def test_all_models_that_cannot_be_had_are_named(cpt: Command, models: list[Path]) -> None:
    code, _, said = cpt(
        "merge", "average", models[0].name, "gone", "lost/a/b", "--kind", "soup", "--out", "mean"
    )
    assert code in (1, 2)
    assert "gone" in said
    assert "lost/a/b" in said


@pytest.fixture
def run(models: list[Path], tmp_path: Path) -> str:
    """A run whose pretrain stage kept models after 2, 10 and 30 steps, the second before its anneal."""
    folder = tmp_path / "runs" / "medical"
    folder.mkdir(parents=True)
    store, mark = Store(folder), "0" * 64
    stages = {"pretrain": {"kind": "pretrain", "fingerprint": mark, "state": "finished"}}
    (folder / "run.json").write_text(json.dumps({"name": "medical", "state": "finished", "stages": stages}))
    with store.writing("pretrain", mark) as aside:
        kinds = zip((2, 10, 30), ("milestone", "pre-anneal", "last"), models, strict=True)
        kept = []
        for step, kind, model in kinds:
            place = "model" if kind == "last" else f"training/checkpoints/step-{step}"
            (aside / place).parent.mkdir(parents=True, exist_ok=True)
            (aside / place).symlink_to(model)
            kept.append({"step": step, "kind": kind, "folder": place, "passed": {}})
        (aside / "training/checkpoints.json").write_text(json.dumps(kept))
        record = {
            "name": "pretrain",
            "stage": "pretrain",
            "kinds": ("model", "training"),
            "fingerprint": mark,
        }
        store.finish(Record.model_validate(record | {"folder": aside}))
    return "medical"


@pytest.mark.parametrize("by_folder", [True, False])
def test_a_runs_checkpoints_are_averaged(by_folder: bool, run: str, cpt: Command, models: list[Path]) -> None:
    name = f"runs/{run}" if by_folder else run
    assert cpt("merge", "average", name, "--kind", "wsd", "--decay", "linear", "--out", "mean")[0] == 0
    old, middle, _ = (read(path) for path in models)
    for each, tensor in read(Path("mean")).items():
        expected = (old[each].double() + middle[each].double()) / 2
        torch.testing.assert_close(tensor, expected.float(), rtol=1e-6, atol=1e-9)
    assert "Of pretrain in the run medical, " in Path("mean/README.md").read_text()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--kind", "lawa", "--last", "4"], "pretrain kept 3 models to average, 4 are needed"),
        (["--kind", "wsd", "--last", "3"], "kept 2 models from before its anneal"),
        (["--kind", "soup", "--stage", "law"], "no finished training law"),
    ],
)
def test_what_a_run_does_not_have_is_said(options: list[str], message: str, run: str, cpt: Command) -> None:
    code, _, said = cpt("merge", "average", run, *options, "--out", "mean")
    assert (code, message in said) == (2, True)


def test_a_run_can_be_elsewhere(run: str, cpt: Command, tmp_path: Path) -> None:
    (tmp_path / "runs").rename(tmp_path / "other")
    assert cpt("merge", "average", run, "--kind", "soup", "--out", "mean")[0] == 2
    assert cpt("merge", "average", run, "--kind", "soup", "--runs", "other", "--out", "mean")[0] == 0


def test_names_that_differ_by_more_than_a_number_keep_their_order() -> None:
    assert by_number(["a/step-100/", "a/step-20"]) == ["a/step-20", "a/step-100/"]
    assert by_number(["b-2", "a-1"]) == ["b-2", "a-1"]
    assert by_number(["law", "a-1"]) == ["law", "a-1"]
