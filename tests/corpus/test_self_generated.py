import json
import sys
import types
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest

from cpt.corpus import self_generated
from cpt.corpus.documents import Document
from cpt.corpus.self_generated import generate
from cpt.models.tokenizer import load_tokenizer
from cpt.progress import NullProgress


def texts(model: Path, work: Path, **options) -> list[str]:
    return [document.text for document in documents(model, work, **options)]


def documents(model: Path, work: Path, **options) -> list[Document]:
    settings = {"tokens": 200, "length": 24, "batch": 4, "temperature": 1.0, "seed": 1}
    marks = {"start_token": "<s>", "end_token": "</s>"}
    return list(generate(model, **(settings | marks | options), work=work, progress=NullProgress()))


def test_sampling_goes_on_until_the_tokens_are_there(tiny_model: Path, tmp_path: Path) -> None:
    made = texts(tiny_model, tmp_path)
    batches = [json.loads(path.read_text())["samples"] for path in sorted(tmp_path.glob("batch-*.json"))]
    counts = [sum(sample["tokens"] for sample in batch) for batch in batches]
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


def test_a_sample_has_ended_only_if_the_model_ended_it(tiny_model: Path, tmp_path: Path) -> None:
    """One that reaches the length is cut off, and so is one that stops at a token which ends no document."""
    made = documents(tiny_model, tmp_path, tokens=4000, batch=200)
    samples = [
        sample
        for path in sorted(tmp_path.glob("batch-*.json"))
        for sample in json.loads(path.read_text())["samples"]
    ]
    assert [document.ended for document in made] == [sample["ended"] for sample in samples]
    ended = [sample for sample in samples if sample["ended"]]
    stopped = [sample for sample in samples if not sample["ended"] and sample["tokens"] < 24]
    assert ended
    assert stopped  # at <s>, which starts documents
    assert all(sample["tokens"] < 24 for sample in ended)
    assert sum(sample["tokens"] == 24 for sample in samples) > len(samples) / 2


def test_a_character_that_the_cut_splits_is_left_out(tiny_model: Path) -> None:
    marks = self_generated._Marks(tiny_model, "<s>", "</s>")
    row = marks._tokenizer("fièvre ж", add_special_tokens=False)["input_ids"]
    end = marks._tokenizer.convert_tokens_to_ids("</s>")
    assert marks.read([*row, end]).text == "fièvre ж"
    cut = marks.read(row[:-1])
    assert (cut.text, cut.tokens, cut.ended) == ("fièvre ", len(row) - 1, False)


def test_the_corpus_names_a_token_that_ends_documents_beside_the_models(
    tiny_model: Path, tmp_path: Path
) -> None:
    options = {"tokens": 4000, "batch": 200}
    plain = documents(tiny_model, tmp_path / "plain", **options)
    both = documents(tiny_model, tmp_path / "both", **options, end_token="<s>")
    wholly = [document.text.rstrip("\ufffd") for document in plain]  # cut ones lose a split character
    assert [document.text.rstrip("\ufffd") for document in both] == wholly
    assert sum(document.ended for document in both) > sum(document.ended for document in plain)


def test_what_was_kept_says_which_samples_ended(tiny_model: Path, tmp_path: Path, monkeypatch) -> None:
    options = {"tokens": 4000, "batch": 200}
    made = documents(tiny_model, tmp_path, **options)
    monkeypatch.setattr(self_generated, "_ENGINES", {})
    assert documents(tiny_model, tmp_path, **options) == made


@pytest.mark.parametrize(
    "damage",
    [lambda text: text[:-20], lambda text: text.replace('"ended": false', '"ended": true')],
    ids=["torn", "changed"],
)
def test_a_damaged_batch_is_sampled_again(tiny_model: Path, tmp_path: Path, damage) -> None:
    made = documents(tiny_model, tmp_path)
    file = tmp_path / "batch-00001.json"
    whole = file.read_text()
    file.write_text(damage(whole))
    assert documents(tiny_model, tmp_path) == made
    assert file.read_text() == whole


class _LLM:
    """Stands in for vLLM: texts that end with `</s>` (told twice or once), start anew, or are cut."""

    asked: ClassVar[dict[str, Any]] = {}

    def __init__(self, **settings: Any) -> None:
        self.asked.clear()
        self.asked.update(settings, prompts=[], seeds=[])

    def generate(self, prompts: list[Any], wanted: list[Any], use_tqdm: bool) -> list[Any]:
        self.asked["wanted"] = wanted[0]
        self.asked["prompts"] += prompts
        self.asked["seeds"] += [each.seed for each in wanted]
        rows = [([40, 41, 1], 1), ([40, 41], 1), ([42] * wanted[0].max_tokens, None), ([43], 0)]
        made = [SimpleNamespace(token_ids=ids, stop_reason=stop) for ids, stop in rows]
        return [SimpleNamespace(outputs=[made[at % 4]]) for at in range(len(prompts))]


def test_vllm_samples_where_it_is_asked_to(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vllm = types.ModuleType("vllm")
    vllm.LLM, vllm.SamplingParams = _LLM, SimpleNamespace  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "vllm", vllm)
    made = documents(tiny_model, tmp_path, engine="vllm", tokens=90)
    tokenizer = load_tokenizer(tiny_model)
    start, end = tokenizer.token_to_id("<s>"), tokenizer.token_to_id("</s>")
    asked = _LLM.asked
    assert (asked["model"], asked["tensor_parallel_size"]) == (str(tiny_model), 1)
    assert asked["prompts"] == [{"prompt_token_ids": [start]}] * len(asked["seeds"])
    assert len(asked["seeds"]) >= 4
    assert (asked["wanted"].temperature, asked["wanted"].max_tokens) == (1.0, 24)
    assert {start, end} <= set(asked["wanted"].stop_token_ids)
    assert len(set(asked["seeds"])) == len(asked["seeds"])
    assert (start, end) == (0, 1)
    assert [each.ended for each in made[:4]] == [True, True, False, False]
    texts = [[40, 41], [40, 41], [42] * 24, [43]]
    assert [each.text for each in made[:4]] == [tokenizer.decode(ids) for ids in texts]


def test_progress_is_told_within_a_batch(tiny_model: Path, tmp_path: Path) -> None:
    class Heard(NullProgress):
        done: ClassVar[list[int]] = []

        def update(self, done: int, total: int, unit: str, **facts: float) -> None:
            assert (done <= total, total, unit) == (True, 200, "token")
            self.done.append(done)

    marks = {"start_token": "<s>", "end_token": "</s>", "progress": Heard()}
    list(generate(tiny_model, 200, 40, 8, 1.0, 1, **marks, work=tmp_path))
    batches = len(list(tmp_path.glob("batch-*.json")))
    assert len(Heard.done) > batches
    assert Heard.done[-1] == 200
