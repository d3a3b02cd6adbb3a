"""The training probe on a tiny model."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from trial_corpora import tiny_corpus

from cpt.corpus import read_index, retokenise
from cpt.corpus.texts import cut_sample
from cpt.initialiser_trial import short_training as probing
from cpt.initialiser_trial.short_training import Trained, TrialSettings, heldout, train_and_measure
from cpt.models.bits_per_byte import TokenisedText
from cpt.models.tokenizer import load_tokenizer
from cpt.monitor.probes.base import ModelView
from cpt.monitor.probes.text import TextProbe
from cpt.monitor.reading import Items
from cpt.progress import NullProgress
from cpt.training.settings import Settings
from cpt.training.trainable import All, Layers, Trainable

SETTINGS = TrialSettings(steps=(0, 2, 4), peak=1e-2, heldout_bytes=1500)


@pytest.fixture(scope="module")
def corpus(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_corpus(tiny_model, tmp_path_factory.mktemp("probe"))


def test_bits_per_byte_fall_on_the_domain_and_are_read_when_asked(tiny_model: Path, corpus: Path) -> None:
    result = train_and_measure(tiny_model, corpus, SETTINGS)
    curve = result.bits_per_byte("domain")
    assert list(curve) == [0, 2, 4]
    assert curve[0] > curve[2] > curve[4]
    assert list(result.bits_per_byte("general")) == [0, 2, 4]
    assert 0 < result.tokens <= 4 * 64
    assert result.bytes > result.tokens


def test_a_probe_is_a_function_of_its_settings(tiny_model: Path, corpus: Path) -> None:
    def last(**changes: object) -> float:
        settings = TrialSettings(**{**vars(SETTINGS), **changes})  # type: ignore[arg-type]
        return train_and_measure(tiny_model, corpus, settings).bits_per_byte("domain")[4]

    assert last() == last()
    for change in ({"peak": 2e-2}, {"batch_sequences": 2}, {"seed": 3}, {"trained": "embeddings"}):
        assert last(**change) != last()


def test_a_reading_does_not_depend_on_later_ones(tiny_model: Path, corpus: Path) -> None:
    short, longer = (
        train_and_measure(tiny_model, corpus, TrialSettings(steps=steps, peak=1e-3, heldout_bytes=800))
        for steps in ((0, 20), (0, 20, 22))
    )
    assert short.bits_per_byte("domain")[20] == longer.bits_per_byte("domain")[20]


def test_without_steps_nothing_trains(tiny_model: Path, corpus: Path) -> None:
    result = train_and_measure(tiny_model, corpus, TrialSettings(steps=(0,), heldout_bytes=1500))
    assert (result.tokens, result.seconds) == (0, 0.0)
    assert result.bits_per_byte("domain") == {
        0: train_and_measure(tiny_model, corpus, SETTINGS).bits_per_byte("domain")[0]
    }


@pytest.mark.parametrize(
    ("trained", "expected"),
    [("embeddings", Layers(kind="layers", layers="none", embeddings="all")), ("all", All())],
)
def test_what_is_asked_for_trains(
    tiny_model: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch, trained: Trained, expected: Trainable
) -> None:
    seen: list[Settings] = []
    real = probing.train

    def spied(model: Any, stream: Any, texts: Any, settings: Settings, *rest: Any) -> Any:
        seen.append(settings)
        return real(model, stream, texts, settings, *rest)

    monkeypatch.setattr(probing, "train", spied)
    train_and_measure(tiny_model, corpus, replace(SETTINGS, trained=trained))
    assert seen[0].config.trainable == expected


def test_held_out_text_is_cut_to_the_size(tiny_model: Path, corpus: Path) -> None:
    texts = heldout([(tiny_model, corpus)], SETTINGS).texts[0]
    assert set(texts) == {"domain", "general"}
    more = heldout([(tiny_model, corpus)], TrialSettings(heldout_bytes=600)).texts[0]
    assert more["domain"].bytes.sum() < texts["domain"].bytes.sum() <= 1500


def test_windows_hold_the_same_bytes_for_every_tokenizer(
    tiny_model: Path, corpus: Path, another_model: Callable[..., Path], tmp_path: Path
) -> None:
    """A vocabulary of whole words would read several times the bytes in as many tokens."""
    coarse, changed = another_model("coarse", vocabulary=450), tmp_path / "changed"
    retokenise(corpus, coarse, changed, NullProgress(), former=tiny_model)
    settings = TrialSettings(heldout_bytes=5000, window=32)

    def stretches(folder: Path, text: TokenisedText) -> list[str]:
        tokenizer = load_tokenizer(folder)
        return [
            tokenizer.decode(ids[context:].tolist())
            for ids, context in zip(text.windows, text.context, strict=True)
        ]

    alone = [
        heldout([each], settings).windows["general"] for each in ((tiny_model, corpus), (coarse, changed))
    ]
    assert alone[1].before / alone[1].scored > 1.1 * alone[0].before / alone[0].scored
    shared = heldout([(tiny_model, corpus), (coarse, changed)], settings)
    for source in ("domain", "general"):
        fine, coarser = (texts[source] for texts in shared.texts)
        assert stretches(tiny_model, fine) == stretches(coarse, coarser)
        assert fine.bytes.tolist() == coarser.bytes.tolist()
        assert coarser.tokens < fine.tokens


def test_without_steps_the_model_goes_to_the_gpu(
    tiny_model: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probing, "best_device", lambda: torch.device("meta"))
    monkeypatch.setattr(probing, "MasterWeights", lambda model, dtype: None)
    seen = []

    def read(probe: TextProbe, subject: ModelView, share: float) -> Items:
        seen.append(next(subject.module.parameters()).device.type)
        return Items(np.ones(1), np.ones(1))

    monkeypatch.setattr(TextProbe, "read", read)
    train_and_measure(tiny_model, corpus, TrialSettings(steps=(0,), heldout_bytes=600))
    assert set(seen) == {"meta"}


def test_cut_takes_whole_characters_up_to_the_size() -> None:
    documents = ["é" * 100, "abc " * 50, "xyz"]
    taken = cut_sample(documents, 60, seed=1)
    assert sum(len(text.encode()) for text in taken) <= 60
    assert all(len(text.encode()) <= 6 for text in taken)
    assert cut_sample(documents, 60, seed=1) == taken


def test_the_window_is_the_settings_and_not_the_training_sequences(tiny_model: Path, corpus: Path) -> None:
    def longest(window: int) -> int:
        texts = heldout([(tiny_model, corpus)], TrialSettings(heldout_bytes=5000, window=window)).texts[0]
        return max(len(ids) for ids in texts["general"].windows)

    assert longest(16) == 16
    assert longest(1024) > read_index(corpus).sequence_length
