import json
from pathlib import Path

import pytest

from cpt.corpus import self_generated
from cpt.corpus.self_generated import generate
from cpt.stages.base import Silent


def texts(model: Path, work: Path, **options) -> list[str]:
    settings = {"tokens": 200, "length": 24, "batch": 4, "temperature": 1.0, "seed": 1, "start_token": "<s>"}
    return [d.text for d in generate(model, **(settings | options), work=work, progress=Silent())]


def test_sampling_goes_on_until_the_tokens_are_there(tiny_model: Path, tmp_path: Path) -> None:
    made = texts(tiny_model, tmp_path)
    counts = [json.loads(path.read_text())[1] for path in sorted(tmp_path.glob("batch-*.json"))]
    assert sum(counts) >= 200 > sum(counts[:-1])
    assert not any("<s>" in text or "</s>" in text for text in made)


@pytest.mark.parametrize(
    "option", [{"seed": 2}, {"temperature": 0.3}, {"length": 8}, {"batch": 3}, {"tokens": 90}], ids=str
)
def test_every_option_matters(tiny_model: Path, tmp_path: Path, option: dict) -> None:
    plain = texts(tiny_model, tmp_path / "plain")
    assert texts(tiny_model, tmp_path / "same") == plain
    assert texts(tiny_model, tmp_path / "other", **option) != plain


def test_a_killed_run_samples_only_the_rest(tiny_model: Path, tmp_path: Path, monkeypatch) -> None:
    whole = texts(tiny_model, tmp_path / "whole")
    sample = self_generated._Sampler.sample
    calls = []

    def counted(self, *arguments):
        calls.append(arguments)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return sample(self, *arguments)

    monkeypatch.setattr(self_generated._Sampler, "sample", counted)
    with pytest.raises(KeyboardInterrupt):
        texts(tiny_model, tmp_path / "killed")
    made_before = len(list((tmp_path / "killed").glob("batch-*.json")))
    assert texts(tiny_model, tmp_path / "killed") == whole
    assert made_before == 1
    assert len(calls) == 2 + len(list((tmp_path / "whole").glob("batch-*.json"))) - made_before
