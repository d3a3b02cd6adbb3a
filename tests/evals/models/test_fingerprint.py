"""Models are the same wherever they were saved, and different as soon as they compute otherwise."""

import json
import shutil
from pathlib import Path

from safetensors.torch import load_file, save_file

from evals.models.request_cache import model_fingerprint


def edited(folder: Path, name: str, **changes: object) -> None:
    content = json.loads((folder / name).read_text())
    (folder / name).write_text(json.dumps({**content, **changes}))


def test_a_fingerprint_is_of_what_the_model_computes(tiny_model: Path, another_model, tmp_path: Path) -> None:
    first = model_fingerprint(tiny_model)
    copy = tmp_path / "elsewhere"
    shutil.copytree(tiny_model, copy)
    assert model_fingerprint(copy) == first
    edited(copy, "config.json", transformers_version="0", _name_or_path="x", use_cache=False)
    (copy / "README.md").write_text("notes")
    assert model_fingerprint(copy) == first

    seen = {first, model_fingerprint(another_model("b", seed=1))}
    edited(copy, "config.json", rms_norm_eps=0.1)
    seen.add(model_fingerprint(copy))
    edited(copy, "generation_config.json", repetition_penalty=2.0)
    seen.add(model_fingerprint(copy))
    edited(copy, "tokenizer.json", version="2.0")
    seen.add(model_fingerprint(copy))
    weights = load_file(copy / "model.safetensors")
    name = next(iter(weights))
    weights[name][0] += 1
    save_file(weights, copy / "model.safetensors", {"format": "pt"})
    seen.add(model_fingerprint(copy))
    assert len(seen) == 6
