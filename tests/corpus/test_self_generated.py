import json
from pathlib import Path

import pytest

from cpt.corpus import self_generated
from cpt.corpus.documents import Document
from cpt.corpus.self_generated import generate
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
    sampler = self_generated._Sampler(tiny_model, "<s>", "</s>")
    row = sampler._tokenizer("fièvre ж", add_special_tokens=False)["input_ids"]
    end = sampler._tokenizer.convert_tokens_to_ids("</s>")
    assert sampler._read([*row, end], {end}).text == "fièvre ж"
    cut = sampler._read(row[:-1], {end})
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
    monkeypatch.setattr(self_generated, "_Sampler", None)
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
