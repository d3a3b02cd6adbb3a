"""Advice on schedules: rates of the power schedule that are for models in muP."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from stage_runs import artifact

from cpt.stages.base import Artifact
from cpt.stages.pretrain.schedule_advice import schedule_advice
from cpt.stages.pretrain.stage import STAGE as PRETRAIN

RUN = 10_000_000


def model(folder: Path, **changes: Any) -> dict[str, Artifact]:
    """The settings of a Llama of the width of SmolLM2-135M."""
    (folder / "model").mkdir()
    config = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 576}
    config |= {"intermediate_size": 1536, "num_attention_heads": 9, "num_key_value_heads": 3}
    (folder / "model" / "config.json").write_text(json.dumps(config | changes))
    return {"model": artifact("base", folder, "model")}


def advice(inputs: dict[str, Artifact], **schedule: Any) -> list[str]:
    config = PRETRAIN.Config.model_validate({"schedule": {"kind": "power", **schedule}})
    return schedule_advice(config, inputs, RUN)


def test_the_published_peak_is_divided_by_the_width(tmp_path: Path) -> None:
    """0.02 · 256 / 576 = 0.0089 and 4.6 · 256 / 576 = 2.0; what is offered is not warned of."""
    inputs = model(tmp_path)
    (said,) = advice(inputs)
    assert "reaches a rate of 0.02" in said
    found = re.search(r"peak: ([\d.e-]+), a: ([\d.e-]+)}", said)
    assert found is not None
    assert float(found[1]) == pytest.approx(0.02 * 256 / 576, rel=0.01)
    assert float(found[2]) == pytest.approx(4.6 * 256 / 576, rel=0.05)
    assert advice(inputs, peak=float(found[1]), a=float(found[2])) == []


def test_low_rates_narrow_models_and_models_in_mup_are_not_warned_of(tmp_path: Path) -> None:
    (tmp_path / "wide").mkdir()
    assert advice(model(tmp_path / "wide"), peak=3e-4) == []
    for name, changes in {
        "narrow": {"hidden_size": 252},
        "minicpm": {"dim_model_base": 256},
        "granite": {"logits_scaling": 8.0},
    }.items():
        (tmp_path / name).mkdir()
        assert advice(model(tmp_path / name, **changes)) == []
    assert advice({}) == []


def test_other_schedules_have_no_such_advice(tmp_path: Path) -> None:
    inputs = model(tmp_path)
    config = PRETRAIN.Config.model_validate({"schedule": {"kind": "wsd", "peak": 0.02}})
    assert schedule_advice(config, inputs, RUN) == []
