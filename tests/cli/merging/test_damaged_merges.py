"""`cpt merge` on damaged models, in places that cannot be written to, and killed at any moment."""

import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from merge_models import weights, write_model
from safetensors.torch import load_file, save_file

ROOT = Path(__file__).parents[3]
WORDS = ("--base", "base", "--add", "law:0.5")
FILE = "model.safetensors"
KILLS = 8


@pytest.fixture
def law(merge: Any, models: Path) -> Path:
    """A copy of a model, to be damaged."""
    Path("law").unlink()
    return Path(shutil.copytree(models / "law", "law"))


def nothing_left() -> bool:
    return {path.name for path in Path.cwd().iterdir()} == {"base", "law", "med", "long", "wide"}


def change(folder: Path, edit: Any) -> None:
    tensors = load_file(folder / FILE)
    edit(tensors)
    save_file(tensors, folder / FILE, metadata={"format": "pt"})


def test_a_truncated_file(merge: Any, law: Path) -> None:
    content = (law / FILE).read_bytes()
    for length in (4, len(content) // 20, len(content) // 2, len(content) - 1):
        (law / FILE).write_bytes(content[:length])
        shown = merge(*WORDS, "--out", "O")
        assert shown.code == 2
        assert "law: " in shown.err
        assert FILE in shown.err
        assert nothing_left()


def test_a_truncated_shard(merge: Any, law: Path) -> None:
    assert merge(*WORDS, "--shard-size", "8kB", "--out", "O").code == 0
    shard = sorted(Path("O").glob("*.safetensors"))[1]
    shard.write_bytes(shard.read_bytes()[:-100])
    shown = merge("--base", "base", "--add", "O:1", "--out", "P")
    assert shown.code == 2
    assert shard.name in shown.err
    shard.unlink()
    assert merge("--base", "base", "--add", "O:1", "--out", "P").code == 2
    assert not Path("P").exists()


def test_a_header_that_lies(merge: Any, law: Path) -> None:
    content = (law / FILE).read_bytes()
    (law / FILE).write_bytes(struct.pack("<Q", 2**60) + content[8:])
    assert merge(*WORDS, "--out", "O").code == 2
    assert nothing_left()


@pytest.mark.parametrize("method", ["task-arithmetic", "ties", "model-stock"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_no_numbers(merge: Any, law: Path, method: str, value: float) -> None:
    change(law, lambda tensors: tensors["model.norm.weight"].__setitem__(3, value))
    words = ("--base", "base", "--add", "law", "--add", "med", "--method", method)
    weight = () if method == "model-stock" else ("--set", "weight=1")
    shown = merge(*words, *weight, "--out", "O")
    assert shown.code == 2
    assert "model.norm.weight holds NaN or infinite values" in shown.err
    assert "merge an earlier checkpoint" in shown.err
    assert nothing_left()


def test_a_missing_tensor(merge: Any, law: Path) -> None:
    change(law, lambda tensors: tensors.pop("model.layers.1.mlp.up_proj.weight"))
    shown = merge(*WORDS, "--out", "O")
    assert shown.code == 2
    assert "missing from the files: model.layers.1.mlp.up_proj.weight" in shown.err.replace("\n", " ")
    assert nothing_left()


def test_another_data_type_is_merged_in_the_wider(merge: Any, law: Path, models: Path) -> None:
    shutil.rmtree(law)
    write_model(law, 2, dtype=torch.bfloat16)
    assert merge("--base", "base", "--add", "law:1", "--out", "O").code == 0
    found = weights(Path("O"))
    for name, tensor in weights(law).items():
        assert torch.equal(found[name], tensor.float())
    assert json.loads(Path("O/config.json").read_text())["dtype"] == "float32"


def test_quantised_weights(merge: Any, law: Path) -> None:
    change(law, lambda tensors: tensors.update({"model.norm.weight": torch.ones(16).to(torch.float8_e4m3fn)}))
    shown = merge(*WORDS, "--out", "O")
    assert shown.code == 2
    assert "stored as F8_E4M3" in shown.err
    assert nothing_left()


@pytest.mark.parametrize(
    ("keys", "code", "message"),
    [
        (
            {"num_attention_heads": 4, "num_key_value_heads": 4, "head_dim": 4},  # of the same weights
            2,
            "num_attention_heads is 2 in base, 4 in law",
        ),
        ({"rms_norm_eps": 0.1}, 0, "note: rms_norm_eps is 1e-06 in base, 0.1 in law"),
    ],
)
def test_another_config(merge: Any, law: Path, keys: dict[str, Any], code: int, message: str) -> None:
    config = json.loads((law / "config.json").read_text()) | keys
    (law / "config.json").write_text(json.dumps(config))
    shown = merge(*WORDS, "--out", "O")
    assert shown.code == code
    assert message in (shown.out + shown.err).replace("\n", " ")
    assert Path("O").exists() == (code == 0)


def test_no_config_and_no_model(merge: Any, law: Path) -> None:
    (law / "config.json").unlink()
    assert merge(*WORDS, "--out", "O").code in (1, 2)
    assert nothing_left()


def test_pickled_weights_are_not_read(merge: Any, law: Path) -> None:
    (law / FILE).unlink()
    torch.save({}, law / "pytorch_model.bin")
    shown = merge(*WORDS, "--out", "O")
    assert shown.code in (1, 2)
    assert "safetensors" in shown.err
    assert nothing_left()


def test_a_target_that_exists(merge: Any) -> None:
    Path("file").write_text("x")
    Path("link").symlink_to("nowhere")
    Path("full").mkdir()
    Path("full/notes").touch()
    for target in ("file", "link", "full"):
        shown = merge(*WORDS, "--out", target)
        assert shown.code == 2
        assert f"{target} exists already" in shown.err
    Path("empty").mkdir()
    assert merge(*WORDS, "--out", "empty").code == 0


def test_a_target_that_cannot_be_written_to(merge: Any) -> None:
    Path("file").write_text("x")
    shown = merge(*WORDS, "--out", "file/O")
    assert shown.code == 2
    assert "nothing can be written beside" in shown.err


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is read-only to root")
def test_a_read_only_target(merge: Any) -> None:
    Path("closed").mkdir(mode=0o555)
    shown = merge(*WORDS, "--out", "closed/O")
    assert shown.code == 2
    assert "nothing can be written beside" in shown.err


def test_folders_on_the_way_are_made_and_go_again(merge: Any, law: Path) -> None:
    assert merge(*WORDS, "--out", "a/b/O").code == 0
    assert Path("a/b/O/config.json").is_file()
    shutil.rmtree("a")
    change(law, lambda tensors: tensors["model.norm.weight"].fill_(float("nan")))
    assert merge(*WORDS, "--out", "a/b/O").code == 2
    assert nothing_left()


@pytest.mark.parametrize("word", [signal.SIGINT, signal.SIGTERM])
def test_stopped(merge: Any, monkeypatch: pytest.MonkeyPatch, word: signal.Signals) -> None:
    def stop(*_: Any) -> None:
        os.kill(os.getpid(), word)
        time.sleep(5)

    monkeypatch.setattr("merging.run.write_settings", stop)
    shown = merge(*WORDS, "--out", "O")
    assert shown.code == {signal.SIGINT: 130, signal.SIGTERM: 143}[word]
    assert nothing_left()


KILLED = """
import os, random, signal, sys, time
from cpt.cli import main

words = ["merge", "--base", "base", "--add", "law:0.5", "--add", "med:0.3", "--out", "O"]
assert main(words) == 0  # imports what is slow to import: the kills are meant for the merge
os.rename("O", "whole-first")
draws = random.Random(3)
for kill in range(int(sys.argv[1])):
    child = os.fork()
    if child == 0:
        for number in range(1000):
            code = main(words)
            os.rename("O", f"whole-{kill}-{number}") if code == 0 else os._exit(code)
    time.sleep(0.02 + 0.7 * draws.random())
    os.kill(child, signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    if os.path.exists("O"):
        os.rename("O", f"whole-{kill}-killed")
"""


def test_killed_at_any_moment_the_target_is_whole_or_absent(merge: Any) -> None:
    assert merge(*WORDS, "--add", "med:0.3", "--out", "expected").code == 0
    expected = {path.name: path.read_bytes() for path in Path("expected").iterdir()}
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", KILLED, str(KILLS)]
    killed = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert killed.returncode == 0, killed.stderr
    whole = list(Path.cwd().glob("whole-*"))
    assert whole
    for folder in whole:
        for name, content in expected.items():
            told = content.replace(b"--out expected", b"--out O")
            assert name == "SHA256SUMS" or (folder / name).read_bytes() == told
        shutil.rmtree(folder)


def test_what_a_kill_left_aside_is_cleaned_at_the_next_call(merge: Any) -> None:
    Path(".O.unfinished").mkdir()
    Path(".O.unfinished/more.safetensors").write_text("half")
    assert merge(*WORDS, "--out", "O").code == 0
    assert not Path(".O.unfinished").exists()
    assert not Path("O/more.safetensors").exists()
