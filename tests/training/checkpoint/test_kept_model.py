"""The model of a step, written from its checkpoint and the finished model without loading either."""

from pathlib import Path
from typing import Any

import pytest
from several import changed
from tiny_runs import SETTINGS, run

from cpt.errors import StageFailed
from cpt.models.packed_model import load_model
from cpt.training.checkpoint.kept_model import keep_model
from cpt.training.checkpoint.store import load_weights
from cpt.training.features.checkpoints import Checkpoints

NEW = [5, 290]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"trainable": {"kind": "layers", "layers": "0", "embeddings": "frozen"}},
        {"new_tokens": NEW, "trainable": {"kind": "layers", "layers": "0", "embeddings": "new-tokens"}},
    ],
    ids=["all", "some layers", "new rows"],
)
def test_it_is_the_model_that_would_have_been_saved(
    tiny_model: Path, tmp_path: Path, changes: dict[str, Any]
) -> None:
    finished, expected = tmp_path / "end", tmp_path / "expected"
    settings = SETTINGS.with_changes(
        **changed(changes), steps=4, checkpoint=Checkpoints(every=2, keep_every=2)
    )
    weights, result, _ = run(tiny_model, tmp_path / "work", settings)
    assert result.kept[2] == "milestone"
    model = load_model(tiny_model)
    model.load_state_dict(weights, strict=False)
    model.save_pretrained(finished)
    (finished / "tokenizer.json").write_text("{}")
    load_weights(tmp_path / "work", 2, model, settings.new_tokens)
    model.save_pretrained(expected)
    keep_model(tmp_path / "work", 2, finished, tmp_path / "kept", settings.new_tokens)
    files = sorted(path.name for path in (tmp_path / "kept").iterdir())
    assert files == sorted([*(path.name for path in expected.iterdir()), "tokenizer.json"])
    for name in ("model.safetensors", "config.json"):
        assert (tmp_path / "kept" / name).read_bytes() == (expected / name).read_bytes()
    assert (expected / "model.safetensors").read_bytes() != (finished / "model.safetensors").read_bytes()


def test_a_checkpoint_of_another_model_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    settings = SETTINGS.with_changes(steps=4, checkpoint=Checkpoints(every=2, keep_every=2))
    run(tiny_model, tmp_path / "work", settings)
    finished = tmp_path / "end"
    model = load_model(tiny_model)
    model.resize_token_embeddings(320)
    model.save_pretrained(finished)
    with pytest.raises(StageFailed, match=r"step 2 is another model's: .*embed_tokens"):
        keep_model(tmp_path / "work", 2, finished, tmp_path / "kept", ())
    assert not (tmp_path / "kept").exists()
