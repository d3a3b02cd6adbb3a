"""`cpt merge` on mergekit's own files: the forms of its examples, against what mergekit makes of them."""

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from merge_models import weights
from mergekit.config import MergeConfiguration
from mergekit.io.tasks import LoaderCache
from mergekit.merge import run_merge
from mergekit.options import MergeOptions
from transformers import AutoModelForCausalLM, AutoTokenizer

LINEAR = """
models:
  - model: law
    parameters: {weight: 1.0}
  - model: med
    parameters: {weight: 0.3}
  - model: base
    parameters: {weight: 0.5}
merge_method: linear
dtype: float16
"""
SLERP = """
slices:
  - sources:
      - model: base
        layer_range: [0, 2]
      - model: law
        layer_range: [0, 2]
merge_method: slerp
base_model: base
parameters:
  t:
    - filter: self_attn
      value: [0, 0.5, 0.3, 0.7, 1]
    - filter: mlp
      value: [1, 0.5, 0.7, 0.3, 0]
    - value: 0.5 # fallback for rest of tensors
dtype: float16
"""
TIES = """
models:
  - model: law
    parameters:
      density: [1, 0.7, 0.1] # density gradient
      weight: 1.0
  - model: med
    parameters:
      density: 0.5
      weight: [0, 0.3, 0.7, 1] # weight gradient
  - model: base
    parameters:
      density: 0.33
      weight:
        - filter: mlp
          value: 0.5
        - value: 0
merge_method: ties
base_model: base
parameters:
  normalize: true
  int8_mask: true
dtype: float16
"""
TASKS = """
models:
  - model: base
  - model: law
    parameters: {weight: "3e-1"}
  - model: med
merge_method: task_arithmetic
base_model: base
parameters: {weight: 0.4, normalize: yes}
dtype: float32
out_dtype: bfloat16
tokenizer_source: base
"""
SCOPES = """
slices:
  - sources:
      - {model: med, layer_range: [0, 2], parameters: {weight: [{filter: mlp, value: 0.9}]}}
      - {model: law, layer_range: [0, 2]}
      - {model: base, layer_range: [0, 2]}
    parameters: {weight: [{filter: self_attn, value: 0.2}]}
merge_method: task_arithmetic
base_model: base
parameters: {weight: 0.4}
"""
STOCK = """
models: [{model: base}, {model: law}, {model: med}]
merge_method: model_stock
base_model: base
dtype: bfloat16
tokenizer: {source: union}
"""
BASED = """
models: [{model: law}, {model: med}]
merge_method: linear
base_model: base
parameters: {weight: 0.5}
"""
KARCHER = """
models: [{model: law}, {model: med}]
merge_method: karcher
parameters: {max_iter: 5, tol: 1e-6}
"""
STACKED = """
slices:
  - sources:
    - model: base
      layer_range: [0, 2]
  - sources:
    - model: law
      layer_range: [1, 2]
merge_method: passthrough
dtype: float16
"""
SCALED = """
slices:
  - sources: [{model: base, layer_range: [0, 1]}]
  - sources:
    - model: law
      layer_range: [0, 1]
      parameters:
        scale:
          - filter: o_proj
            value: 0.0
          - value: 1.0
merge_method: passthrough
"""
MODULES = """
modules:
  default:
    slices:
      - sources: [{model: law, layer_range: [0, 2]}]
merge_method: passthrough
"""
TOKENS = """
models: [{model: law, parameters: {weight: 0.5}}, {model: med, parameters: {weight: 0.5}}]
merge_method: linear
tokenizer:
  source: union
  pad_to_multiple_of: 4
  tokens:
    heart: {source: law, force: true}
    lung: {source: {kind: model_token, model: med, token: skin}, force: true}
    spleen: {source: {kind: zero}}
"""
OURS = {
    "linear": LINEAR,
    "slerp": SLERP,
    "ties": TIES,
    "tasks": TASKS,
    "scopes": SCOPES,
    "stock": STOCK,
    "based": BASED,
    "karcher": KARCHER,
}
THEIRS = {
    "stacked": (STACKED, "`slices` stacks layers"),
    "scaled": (SCALED, "`slices` stacks layers"),
    "modules": (MODULES, "`modules` merges the parts of a model apart"),
    "tokens": (TOKENS, "`tokenizer` gives rows to single tokens, or pads the embedding"),
    "adapter": (LINEAR.replace("model: law", "model: law+lora"), "`model+adapter` adds an adapter"),
}


def by_mergekit(text: str) -> dict[str, torch.Tensor]:
    """What mergekit makes of a file."""
    configuration = MergeConfiguration.model_validate(yaml.safe_load(text))
    run_merge(configuration, "theirs", MergeOptions(device="cpu", quiet=True, write_model_card=False))
    LoaderCache().loaders.clear()
    return weights(Path("theirs"))


@pytest.mark.parametrize("name", OURS)
def test_the_result_is_mergekits_to_the_bit(merge: Any, name: str) -> None:
    Path("merge.yml").write_text(OURS[name])
    shown = merge("merge.yml", "--out", "O")
    assert shown.code == 0, shown.err
    ours, theirs = weights(Path("O")), by_mergekit(OURS[name])
    assert ours.keys() == theirs.keys()
    for tensor, expected in theirs.items():
        assert ours[tensor].dtype == expected.dtype
        assert torch.equal(ours[tensor], expected), tensor
    AutoModelForCausalLM.from_pretrained("O")
    AutoTokenizer.from_pretrained("O")
    assert {path.name for path in Path("O").iterdir()} >= {
        "README.md",
        "SHA256SUMS",
        "generation_config.json",
    }


@pytest.mark.parametrize("name", THEIRS)
def test_what_has_no_equal_is_told_with_mergekits_own_command(merge: Any, name: str) -> None:
    text, part = THEIRS[name]
    Path("merge.yml").write_text(text)
    shown = merge("merge.yml", "--out", "O")
    assert shown.code == 2
    assert part in shown.err
    assert ": cpt merge has no equal of that" in shown.err
    assert "Run mergekit itself: mergekit-yaml merge.yml OUT." in shown.err
    assert not Path("O").exists()


def test_what_has_no_effect_is_told(merge: Any) -> None:
    Path("merge.yml").write_text(
        TIES.replace("density: 0.5", "density: 0.5\n      epsilon: 1\n      normalize: true") + "name: mine\n"
    )
    shown = merge("merge.yml", "--dry-run")
    for note in (
        "`name` is nothing that mergekit knows: no effect",
        "`int8_mask` has no effect on ties",
        "med: `epsilon` has no effect on ties",
        "med: `normalize` has no effect on ties",
    ):
        assert f"note: {note}" in shown.out
    assert {path.name for path in Path.cwd().iterdir()} >= {"merge.yml"}
    assert not Path("O").exists()


@pytest.mark.parametrize("template", ["chatml", "'{% for message in messages %}x{% endfor %}'"])
def test_chat_templates(merge: Any, template: str) -> None:
    Path("merge.yml").write_text(f"{LINEAR}chat_template: {template}\n")
    assert merge("merge.yml", "--out", "O").code == 0
    by_mergekit(f"{LINEAR}chat_template: {template}\n")
    ours, theirs = (AutoTokenizer.from_pretrained(name).chat_template for name in ("O", "theirs"))
    assert ours == theirs


def test_the_most_common_chat_template(merge: Any, models: Path) -> None:
    for name, template in (("law", "{{ 1 }}"), ("med", "{{ 1 }}"), ("base", "{{ 2 }}")):
        Path(name).unlink()
        Path(name).mkdir()
        for file in (models / name).iterdir():
            Path(name, file.name).symlink_to(file)
        Path(name, "chat_template.jinja").write_text(template)
    Path("merge.yml").write_text(f"{LINEAR}chat_template: auto\n")
    assert merge("merge.yml", "--out", "O").code == 0
    assert Path("O/chat_template.jinja").read_text() == "{{ 1 }}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (TIES.replace("base_model", "base_modl"), "merge.yml:19: base_modl: unknown key `base_modl`"),
        (TIES.replace("density: 0.5", "densty: 0.5"), "merge.yml:9: models.1.parameters.densty"),
        (TIES.replace("ties", "tise"), "merge.yml:18: merge_method: there is no merge method 'tise'"),
        (LINEAR.replace("- model: law", "- modell: law"), "merge.yml:3: models.0.modell: unknown key"),
        (LINEAR + "slices: []\n" + "modules: {}\n" + "models:\n", "`models` is given twice"),
        ("merge_method: linear\n", "Exactly one of"),
        (LINEAR.replace("law", "lwa"), "no such file or folder"),
        (LINEAR.replace("{weight: 0.3}", "{}"), "weight of med is not given"),
        (LINEAR.replace("model: law", "model: wide"), "different architectures cannot be merged"),
        ("base_model: base\nexperts: []\n", "mergekit-moe makes mixtures of experts"),
        (LINEAR + "chat_template: chatmll\n", "there is no chat template 'chatmll'"),
    ],
)
def test_mistakes(merge: Any, text: str, message: str) -> None:
    Path("merge.yml").write_text(text)
    shown = merge("merge.yml", "--out", "O")
    assert shown.code == 2, shown.out
    assert message in shown.err, shown.err
    assert not Path("O").exists()
    assert not Path(".O.unfinished").exists()


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ("[3, 1]", "layer_range [3, 1] of law holds no layers"),
        ("[1, 1]", "layer_range [1, 1] of law holds no layers"),
        ("[-1, 2]", "layer_range [-1, 2] of law holds no layers"),
        ("[1, 9]", "layer_range [1, 9] of law goes beyond its 2 layers"),
    ],
)
def test_slices_without_layers_are_refused(merge: Any, layers: str, message: str) -> None:
    Path("merge.yml").write_text(STACKED.replace("[1, 2]", layers))
    shown = merge("merge.yml", "--out", "O")
    assert shown.code == 2
    assert message in shown.err
    assert not Path("O").exists()
