"""`cpt merge` from flags: the contract, what each flag changes, what is refused."""

import errno
import json
import shlex
import subprocess
import time
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
import torch
from merge_models import weights
from transformers import AutoModelForCausalLM, AutoTokenizer

from cpt.references.cache import folders_sha256
from merging.methods import methods

MODELS = {"base", "law", "med", "long", "wide"}
BOTH = ("--base", "base", "--add", "law:0.5", "--add", "med:0.25")


def left(folder: Path) -> set[str]:
    """What the folder holds beside the models, hidden or not."""
    return {path.name for path in folder.iterdir()} - MODELS


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_weight_one_of_one_model_is_that_model_to_the_bit(merge: Any, models: Path) -> None:
    shown = merge("--base", "base", "--add", "law:1.0", "--method", "task-arithmetic", "--out", "O")
    assert shown.code == 0, shown.err
    assert same(weights(Path("O")), weights(models / "law"))
    AutoModelForCausalLM.from_pretrained("O")
    assert len(AutoTokenizer.from_pretrained("O")) == 6
    assert left(Path.cwd()) == {"O"}
    assert subprocess.run(["sha256sum", "-c", "--quiet", "SHA256SUMS"], cwd="O").returncode == 0


def test_the_card_has_the_fingerprints_of_what_was_merged(merge: Any, models: Path) -> None:
    merge(*BOTH, "--out", "O")
    card = Path("O/README.md").read_text()
    expected = folders_sha256([models / name for name in ("base", "law", "med")])
    assert [mark for mark in expected if f"`{mark}`" not in card] == []


def test_a_merge_that_waits_for_fingerprints_says_so(merge: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    told = "reading what is left of the models for their fingerprints"

    def late(references: list[str]) -> list[str]:
        while not Path(".O.unfinished/tokenizer.json").exists():
            time.sleep(0.01)
        return ["later"] * len(references)

    monkeypatch.setattr("cpt.cli.merging.job.fingerprints", late)
    assert told in merge(*BOTH, "--out", "O").err
    assert "`later`" in Path("O/README.md").read_text()

    at_once: Future[dict[str, str]] = Future()
    at_once.set_result(dict.fromkeys(("base", "law", "med"), "known"))
    monkeypatch.setattr("cpt.cli.merging.merge.fingerprints_meanwhile", lambda *_: at_once)
    assert told not in merge(*BOTH, "--out", "again").err


@pytest.mark.parametrize("which", ["law", None])
def test_a_model_that_cannot_be_read_for_its_fingerprint_leaves_no_result(
    which: str | None, merge: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_references: list[str]) -> list[str]:
        raise OSError(errno.EIO, "Input/output error", which)

    monkeypatch.setattr("cpt.cli.merging.job.fingerprints", fail)
    shown = merge(*BOTH, "--out", "O")
    assert shown.code != 0
    message = f"{which or 'a model'} cannot be read for its fingerprint: Input/output error"
    assert message in shown.err
    assert left(Path.cwd()) == set()


def test_mismatched_architectures_are_refused_and_nothing_is_written(merge: Any) -> None:
    shown = merge("--base", "base", "--add", "wide:1.0", "--method", "task-arithmetic", "--out", "new/O")
    assert shown.code == 2
    assert "different architectures cannot be merged" in shown.err
    assert "is [16] in base, [32] in wide" in shown.err
    assert left(Path.cwd()) == set()


def test_task_arithmetic_is_the_default_and_sums_changes(merge: Any, models: Path) -> None:
    assert merge(*BOTH, "--out", "O").code == 0
    base, law, med = (weights(models / name) for name in ("base", "law", "med"))
    for name, found in weights(Path("O")).items():
        expected = base[name] + 0.5 * (law[name] - base[name]) + 0.25 * (med[name] - base[name])
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(
    "words",
    [
        ("--method", "ties", "--density", "0.5"),
        ("--normalize",),
        ("--set", "lambda=0.5"),
        ("--set", "normalize=true"),
        ("--dtype", "bfloat16"),
    ],
)
def test_flags_change_the_weights(merge: Any, words: tuple[str, ...]) -> None:
    assert merge(*BOTH, "--out", "before").code == 0
    shown = merge(*BOTH, *words, "--out", "after")
    assert shown.code == 0, shown.err
    assert not same(weights(Path("before")), weights(Path("after")))


def test_weights_by_layer_and_by_kind_of_tensor(merge: Any, models: Path) -> None:
    setting = "law.weight=[{filter: mlp, value: 0}, {layers: [1, 2], value: 1}, {value: 0.5}]"
    assert merge("--base", "base", "--add", "law", "--set", setting, "--out", "O").code == 0
    found, base, law = weights(Path("O")), weights(models / "base"), weights(models / "law")
    up, query = "model.layers.{}.mlp.up_proj.weight", "model.layers.{}.self_attn.q_proj.weight"
    assert torch.equal(found[up.format(1)], base[up.format(1)])
    assert torch.equal(found[query.format(1)], law[query.format(1)])
    first = query.format(0)
    torch.testing.assert_close(found[first], (base[first] + law[first]) / 2)


def test_density_and_seed(merge: Any) -> None:
    dare = (*BOTH, "--method", "dare-ties")
    for name, words in {
        "a": ("--density", "0.5"),
        "b": ("--density", "0.5"),
        "c": ("--density", "0.5", "--seed", "1"),
        "d": ("--density", "0.2"),
        "e": ("--set", "law.density=0.2", "--set", "med.density=0.2"),
    }.items():
        assert merge(*dare, *words, "--out", name).code == 0
    a, b, c, d, e = (weights(Path(name)) for name in "abcde")
    assert same(a, b)
    assert same(d, e)
    assert not same(a, c)
    assert not same(a, d)


def test_normalize_of_ties_can_be_left_out(merge: Any) -> None:
    for name, word in (("with", "--normalize"), ("without", "--no-normalize")):
        assert merge(*BOTH, "--method", "ties", word, "--out", name).code == 0
    assert not same(weights(Path("with")), weights(Path("without")))


def test_compute_dtype(merge: Any) -> None:
    for dtype in ("float64", "bfloat16"):
        assert merge(*BOTH, "--compute-dtype", dtype, "--out", dtype).code == 0
    assert not same(weights(Path("float64")), weights(Path("bfloat16")))


def test_shards(merge: Any) -> None:
    assert merge(*BOTH, "--out", "one").code == 0
    assert merge(*BOTH, "--shard-size", "8kB", "--out", "many").code == 0
    assert len(list(Path("one").glob("*.safetensors"))) == 1
    files = list(Path("many").glob("*.safetensors"))
    assert len(files) >= 3
    assert same(weights(Path("one")), weights(Path("many")))
    AutoModelForCausalLM.from_pretrained("many")


def test_vocabularies_and_their_report(merge: Any, models: Path) -> None:
    words = ("--base", "base", "--add", "long:0.5", "--add", "law:0.5")
    shown = merge(*words, "--out", "O", "--json")
    assert shown.json["vocabulary_of"] == "long"
    assert shown.json["rows_by_case"] == {"merged": 6, "taken from the one model that has it": 2}
    listing = json.loads(Path("O/merge_rows.json").read_text())
    assert list(listing["groups"][0]["rows"].values()) == ["liver", "spleen"]
    assert torch.equal(
        weights(Path("O"))["model.embed_tokens.weight"][6:],
        weights(models / "long")["model.embed_tokens.weight"][6:],
    )
    assert merge(*words, "--tokenizer", "base", "--out", "small", "--json").json["rows"] == 6
    assert "2 tokens of long are left out" in merge(*words, "--tokenizer", "base", "--dry-run").out
    assert merge(*words, "--tokenizer", "union", "--out", "union", "--json").json["rows"] == 8


def test_settings_of(merge: Any) -> None:
    for name in ("base", "med"):
        assert merge(*BOTH, "--settings-of", name, "--out", f"as-{name}").code == 0
    lengths = [
        json.loads(Path(f"as-{name}/generation_config.json").read_text())["max_new_tokens"]
        for name in ("base", "med")
    ]
    assert lengths == [11, 13]


def test_a_chat_template_of_its_own(merge: Any) -> None:
    Path("mine.jinja").write_text("{{ messages[0].content }}!")
    for choice, part in (
        ("mine.jinja", "messages[0].content }}!"),
        ("chatml", "<|im_start|>"),
        ("{% for message in messages %}x{% endfor %}", "endfor %}"),
    ):
        assert merge(*BOTH, "--chat-template", choice, "--out", part[:4]).code == 0
        assert part in AutoTokenizer.from_pretrained(part[:4]).chat_template
    shown = merge(*BOTH, "--chat-template", "chatmll", "--out", "O")
    assert shown.code == 2
    assert "Choose from: auto, alpaca, chatml" in shown.err


def test_a_dry_run_writes_nothing_and_tells_rows_and_memory(merge: Any) -> None:
    words = ("--base", "base", "--add", "long:0.5", "--dry-run")
    shown = merge(*words, "--out", "O")
    assert shown.code == 0
    assert "Nothing is written" in shown.out
    facts = merge(*words, "--json").json
    assert [parent["name"] for parent in facts["parents"]] == ["base", "long"]
    assert [parent["rows"] for parent in facts["parents"]] == [6, 8]
    assert [(group["rows"], group["models"]) for group in facts["rows_from"]] == [
        (6, ["base", "long"]),
        (2, ["long"]),
    ]
    assert facts["bytes"] == facts["number_of_parameters"] * 4
    memory = facts["expected_memory_bytes"]
    assert memory["total"] == memory["merging"] + memory["program"]
    assert left(Path.cwd()) == set()


def test_the_card_has_the_command_that_makes_the_same_again(merge: Any) -> None:
    words = ("--method", "ties", "--density", "0.5", "--set", "law.density=[0.2, 0.7]", "--dtype", "bfloat16")
    assert merge(*BOTH, *words, "--settings-of", "med", "--shard-size", "8kB", "--out", "O").code == 0
    line = next(line for line in Path("O/README.md").read_text().splitlines() if line.startswith("cpt merge"))
    again = shlex.split(line)[2:]
    assert again[-2:] == ["--out", "O"]
    assert merge(*again[:-1], "P").code == 0
    for file in {path.name for path in Path("O").iterdir()} - {"README.md", "SHA256SUMS"}:
        assert Path("O", file).read_bytes() == Path("P", file).read_bytes(), file


def test_everything_wrong_is_told_at_once(merge: Any) -> None:
    Path("there").mkdir()
    Path("there/file").touch()
    shown = merge(
        *("--base", "base", "--add", "lwa:0.5", "--add", "med", "--set", "x.density=1", "--set", "medd=2"),
        *("--method", "ties", "--dtype", "int3", "--shard-size", "5 apples", "--out", "there"),
    )
    assert shown.code == 2
    for message in (
        "no such file or folder",
        "Did you mean law",
        "there is no model called x",
        "weight of med is not given",
        "medd is no parameter of ties",
        "dtype: unknown value `int3`",
        "'5 apples' is no size",
        "there exists already",
    ):
        assert message in shown.err
    assert left(Path.cwd()) == {"there"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--out", "O"), "name the models to merge"),
        (BOTH, "say where the result goes"),
        ((*BOTH, "--method", "tie", "--out", "O"), "there is no merge method 'tie'"),
        (("--base", "base", "--add", "law:inf", "--out", "O"), "finite number"),
        (("--base", "base", "--add", "a=law:1", "--add", "a=med:1", "--out", "O"), "two models are called a"),
        (("--base", "base", "--add", "union=law:1", "--out", "O"), "cannot be called union"),
        ((*BOTH, "--set", "law.weight=0.3", "--out", "O"), "weight of law is given twice"),
        ((*BOTH, "--density", "0.3", "--set", "density=1", "--out", "O"), "density is given twice"),
        (("--add", "law:1", "--out", "O"), "needs a base model"),
        ((*BOTH, "--tokenizer", "lwa", "--out", "O"), "no model called 'lwa'"),
        (("missing.yaml", "--out", "O"), "there is no plan missing.yaml"),
    ],
)
def test_mistakes(merge: Any, words: tuple[str, ...], message: str) -> None:
    shown = merge(*words)
    assert shown.code == 2
    assert message in shown.err.replace("\n", " ")
    assert left(Path.cwd()) == set()


def test_names_of_models_in_settings(merge: Any) -> None:
    Path("v1.5").symlink_to("law")
    assert merge("--base", "base", "--add", "v1.5", "--set", "v1.5.weight=1", "--out", "a").code == 0
    assert merge("--base", "base", "--add", "x=v1.5", "--set", "x.weight=1", "--out", "b").code == 0
    assert same(weights(Path("a")), weights(Path("b")))


def test_every_method_is_listed(merge: Any) -> None:
    shown = merge("methods")
    for name, method in methods().items():
        assert f"{name}  {method.line}" in shown.out
        assert f"when: {method.when}" in shown.out
    found = {entry["name"]: entry for entry in merge("methods", "--json").json}
    assert found.keys() == methods().keys()
    density = next(each for each in found["ties"]["parameters"] if each["name"] == "density")
    assert (density["default"], density["low"], density["high"]) == (1.0, 0.0, 1.0)
    one = merge("methods", "dare_ties")
    assert "needs a base; random: --seed" in one.out
    assert "0 … 1" in one.out
    assert merge("methods", "dare-ties", "--json").json["name"] == "dare-ties"
    assert merge("methods", "tise").code == 2


def test_help(merge: Any) -> None:
    for words in ((), ("--help",)):
        shown = merge(*words)
        assert "Example: cpt merge --base B" in shown.out
        assert "cpt merge methods" in shown.out
