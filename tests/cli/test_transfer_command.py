"""`cpt tokenizer transfer`: identity, special tokens, fine-tuned variants, mistakes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from made_hypernetworks import hub_snapshot, write_hypernetwork
from safetensors.torch import load_file, save_file
from tiny import clinical_texts, write_jsonl
from transformers import AutoModelForCausalLM, AutoTokenizer

from cpt.models.token_ids import read_new_tokens
from tokenizer_tools.hypernetwork.predict import predict_rows
from tokenizer_tools.hypernetwork.surface_forms import surface_forms
from tokenizer_tools.transfer import plan_transfer
from tokenizer_tools.vocabulary import read_vocabulary

EMBEDDING = "model.embed_tokens.weight"


@pytest.fixture
def run(called: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tiny_model: Path) -> Any:
    """Call the command in a folder with the hypernetwork `zett`: exit code, standard output and error."""
    monkeypatch.chdir(tmp_path)
    write_hypernetwork(tmp_path / "zett", tiny_model)
    return lambda *words: called("tokenizer", "transfer", "--hypernet", "zett", *words)


def weights(folder: Path | str) -> dict[str, torch.Tensor]:
    return load_file(Path(folder) / "model.safetensors")


def test_the_same_tokenizer_changes_nothing(run: Any, tiny_model: Path) -> None:
    code, out, err = run("--tokenizer", tiny_model, "--out", "same", "--pad", 1, "--json")
    assert code == 0, err
    assert json.loads(out)["new_rows"] == 0
    before, after = weights(tiny_model), weights("same")
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    ids = torch.arange(60)[None]
    with torch.no_grad():
        logits = [AutoModelForCausalLM.from_pretrained(model)(ids).logits for model in (tiny_model, "same")]
    assert torch.equal(*logits)


def test_new_rows_are_predicted_and_others_copied(
    run: Any, tiny_model: Path, tmp_path: Path, another_model: Callable[..., Path]
) -> None:
    """Special tokens of other names too, by their role."""
    other = another_model("other", vocabulary=330)
    for file in other.glob("*.json"):
        file.write_text(file.read_text().replace('"<s>"', '"<begin>"').replace('"</s>"', '"<end>"'))
    code, out, err = run("--tokenizer", other, "--out", "out", "--json")
    assert code == 0, err
    facts = json.loads(out)
    assert facts["initialisation"]["predicted"] == facts["new_rows"] == 30
    network = write_hypernetwork(tmp_path / "again", tiny_model)
    transfer = plan_transfer(tiny_model, Path("out"), tiny_model)
    surfaces = [transfer.target.surfaces[token_id] for token_id in transfer.new]
    rows = predict_rows(network, surface_forms(read_vocabulary(tiny_model), surfaces, 7, one_word=True))
    before, after = weights(tiny_model)[EMBEDDING], weights("out")[EMBEDDING]
    torch.testing.assert_close(after[transfer.new], rows["tied"])
    assert torch.equal(after[transfer.shared_target], before[transfer.shared_source])
    ids = AutoTokenizer.from_pretrained("out").convert_tokens_to_ids(["<begin>", "<end>"])
    assert torch.equal(after[ids], before[:2])
    config = AutoModelForCausalLM.from_pretrained("out").config
    assert [config.bos_token_id, config.eos_token_id] == ids


def test_all_plain_rows_are_predicted_where_that_is_asked_for(
    run: Any, tiny_model: Path, tmp_path: Path, another_model: Callable[..., Path]
) -> None:
    """Special rows are copied, ids follow their tokens, and only tokens that are new count as such."""
    other = another_model("other", vocabulary=330)
    code, out, err = run("shared=predicted", "--tokenizer", other, "--out", "out", "--json")
    assert code == 0, err
    facts = json.loads(out)
    assert (facts["copied_rows"], facts["new_rows"]) == (2, 328)
    network = write_hypernetwork(tmp_path / "again", tiny_model)
    vocabulary = read_vocabulary(other)
    forms = surface_forms(read_vocabulary(tiny_model), vocabulary.surfaces[2:], 7, one_word=True)
    made = weights("out")[EMBEDDING]
    torch.testing.assert_close(made[2:330], predict_rows(network, forms)["tied"])
    assert torch.equal(made[:2], weights(tiny_model)[EMBEDDING][:2])
    assert len(read_new_tokens(Path("out"))) == 30
    assert AutoModelForCausalLM.from_pretrained("out").generation_config.eos_token_id == 1


def variant_of(model: Path, output: Path) -> Path:
    shutil.copytree(model, output)
    torch.manual_seed(4)
    moved = {name: each + 1e-3 * torch.randn_like(each) for name, each in weights(model).items()}
    save_file(moved, output / "model.safetensors", metadata={"format": "pt"})
    return output


def test_a_fine_tuned_variant(
    run: Any, tiny_model: Path, tmp_path: Path, another_model: Callable[..., Path]
) -> None:
    """Predicted rows of the base, the variant's own other weights."""
    other = another_model("other", vocabulary=330)
    variant = variant_of(tiny_model, tmp_path / "variant")
    code, out, err = run("--tokenizer", other, "--model", variant, "--out", "tuned", "--json")
    assert code == 0, err
    assert "reading the rows of" in " ".join(err.split())
    assert json.loads(out)["initialisation"]["base"] == str(tiny_model)
    assert run("--tokenizer", other, "--out", "plain")[0] == 0
    made, plain, own = weights("tuned"), weights("plain"), weights(variant)
    transfer = plan_transfer(tiny_model, Path("plain"), tiny_model)
    assert torch.equal(made[EMBEDDING][transfer.new], plain[EMBEDDING][transfer.new])
    assert torch.equal(made[EMBEDDING][transfer.shared_target], own[EMBEDDING][transfer.shared_source])
    assert all(torch.equal(made[name], own[name]) for name in own if name != EMBEDDING)


def test_n_shot_training_is_added_to_a_variant_by_task_arithmetic(
    run: Any, called: Any, tiny_model: Path, tmp_path: Path, another_model: Callable[..., Path]
) -> None:
    """variant + lambda * (trained - transferred), weight by weight."""
    other = another_model("other", vocabulary=330)
    variant = variant_of(tiny_model, tmp_path / "variant")
    assert run("--tokenizer", other, "--out", "transferred")[0] == 0
    assert run("--tokenizer", other, "--model", variant, "--out", "tuned")[0] == 0
    variant_of(tmp_path / "transferred", tmp_path / "trained")
    code, _, err = called(
        *("merge", "--base", "transferred", "--add", "variant=tuned:1.0", "--add", "nshot=trained:0.5"),
        *("--method", "task-arithmetic", "--out", "merged"),
    )
    assert code == 0, err
    base, tuned, trained, merged = (weights(x) for x in ("transferred", "tuned", "trained", "merged"))
    for name, made in merged.items():
        torch.testing.assert_close(made, tuned[name] + 0.5 * (trained[name] - base[name]))


def test_a_copy_of_the_source_model_is_no_variant(
    run: Any, tiny_model: Path, tmp_path: Path, another_model: Callable[..., Path]
) -> None:
    shutil.copytree(tiny_model, tmp_path / "copy")
    other = another_model("other", vocabulary=330)
    code, out, err = run("--tokenizer", other, "--model", "copy", "--out", "out", "--json")
    assert code == 0, err
    assert json.loads(out)["initialisation"]["base"] is None


def test_the_hypernetwork_may_be_on_the_hub(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, another_model: Callable[..., Path]
) -> None:
    other = another_model("other", vocabulary=330)
    assert run("--tokenizer", other, "--out", "local")[0] == 0
    (tmp_path / "zett").rename(hub_snapshot(tmp_path / "hub", monkeypatch))
    code, out, err = run("--tokenizer", other, "--hypernet", "org/zett", "--out", "remote", "--json")
    assert code == 0, err
    assert json.loads(out)["initialisation"]["predicted"] == 30
    assert torch.equal(weights("remote")[EMBEDDING], weights("local")[EMBEDDING])
    code, _, err = run("--tokenizer", other, "--hypernet", "org/another", "--out", "out")
    assert (code, Path("out").exists()) == (1, False)
    assert "cannot get org/another from the Hugging Face hub: no network" in " ".join(err.split())


def test_the_printed_result(run: Any, another_model: Callable[..., Path]) -> None:
    code, out, _ = run("--tokenizer", another_model("other", vocabulary=330), "--out", "out")
    assert code == 0
    shown = " ".join(out.split())
    assert "rows made 30" in shown
    assert "of them read without their last pieces 0" in shown


def test_mistakes_leave_nothing(
    run: Any, called: Any, tiny_model: Path, another_model: Callable[..., Path]
) -> None:
    other, stranger = another_model("other", vocabulary=330), another_model("stranger", seed=1)
    for words, message in (
        (("--model", stranger), "is no fine-tuned variant"),
        (("--hypernet", tiny_model), "is no hypernetwork"),
        (("--model", "nowhere"), "no such file or folder"),
    ):
        code, _, err = run("--tokenizer", other, "--out", "out", *words)
        assert code in (1, 2), err
        assert message in " ".join(err.split())
        assert "Traceback" not in err
        assert not Path("out").exists()


def test_replace_and_compare_take_the_method(
    called: Any, run: Any, tiny_model: Path, another_model: Callable[..., Path]
) -> None:
    other = another_model("other", vocabulary=330)
    assert run("--tokenizer", other, "--out", "a")[0] == 0
    method = ("--method", "hypernetwork", "folder=zett")
    code, _, err = called("tokenizer", "replace", tiny_model, other, *method, "--out", "b")
    assert code == 0, err
    assert torch.equal(weights("a")[EMBEDDING], weights("b")[EMBEDDING])
    write_jsonl(Path("text.jsonl"), clinical_texts())
    compare = (
        *("tokenizer", "compare", tiny_model, "--text", "text.jsonl", "--replace", other, "--steps", "0"),
        *("--method", "hypernetwork:folder=zett", "--method", "mean", "--sequence-length", 64),
        *("--out", "table"),
    )
    code, _, err = called(*compare)
    assert code == 0, err
    rows = json.loads(Path("table/comparison.json").read_text())["rows"]
    assert [row["method"] for row in rows] == ["unchanged", "hypernetwork(folder=zett)", "mean"]
    assert not any(row["failure"] for row in rows)
    beside = ("--hypernet", "zett", "--method", "mean", "--sequence-length", 64, "--out", "beside", "--json")
    code, out, err = called(*compare[:9], *beside)
    assert code == 0, err
    rows = json.loads(out)["rows"]
    ours = [f"hypernetwork(folder=zett, shared={shared})" for shared in ("copied", "predicted")]
    assert [row["method"] for row in rows] == ["unchanged", "mean", *ours]
    assert all(row["initialisation_seconds"] > 0 and not row["failure"] for row in rows[1:])
    write_hypernetwork(Path("zett"), tiny_model, seed=1)
    code, _, err = called(*compare)
    assert code != 0
    assert "table" in err
    code, _, err = called("tokenizer", "replace", tiny_model, other, *method[:2], "--out", "c")
    assert code == 2
    assert "hypernetwork needs folder" in " ".join(err.split())
