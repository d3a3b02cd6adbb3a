"""Comparing initialisations on a tiny model."""

import json
from pathlib import Path

import pytest
from tiny import clinical_texts, write_jsonl
from trial_corpora import tiny_corpus

from cpt.corpus.texts import has_texts
from cpt.initialiser_trial.results import UNCHANGED, TrialResult, TrialRow, plot
from cpt.initialiser_trial.short_training import TrialSettings, heldout, train_and_measure
from cpt.initialiser_trial.trial import build_corpus, label, run_trial
from cpt.progress import NullProgress
from tokenizer_tools.settings import EmbeddingsConfig, VocabularyChange

SETTINGS = TrialSettings(steps=(0, 3), peak=1e-2, heldout_bytes=1500)
METHODS = [
    EmbeddingsConfig(method="random"),
    EmbeddingsConfig(method="subtoken-mean"),
    EmbeddingsConfig.model_validate({"method": "random", "std": 5.0}),
    EmbeddingsConfig.model_validate({"method": "clp", "donor": "/no/such/donor"}),
]


@pytest.fixture(scope="module")
def comparison(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> TrialResult:
    folder = tmp_path_factory.mktemp("compare")
    corpus = tiny_corpus(tiny_model, folder)
    change = VocabularyChange.model_validate({"extend": {"tokens": 40}})
    seen: list[TrialRow] = []
    (folder / "scratch").mkdir()
    found = run_trial(
        tiny_model,
        corpus,
        change,
        METHODS,
        SETTINGS,
        NullProgress(),
        folder / "scratch",
        finished=seen.append,
    )
    assert seen == found.rows
    assert sorted(path.name for path in (folder / "scratch").iterdir()) == ["corpus", "tokenizer"]
    shared = heldout(
        [(tiny_model, corpus), (folder / "scratch/tokenizer", folder / "scratch/corpus")], SETTINGS
    )
    reread = train_and_measure(tiny_model, corpus, SETTINGS, shared.texts[0])
    assert found.rows[0].domain == reread.bits_per_byte("domain")
    return found


def test_the_unchanged_model_comes_first_and_methods_in_order(comparison: TrialResult) -> None:
    assert [row.method for row in comparison.rows] == [UNCHANGED, *map(label, METHODS)]
    assert label(METHODS[2]) == "random(std=5.0)"


def test_every_method_has_its_curves_on_the_same_text(comparison: TrialResult) -> None:
    for row in comparison.rows[:4]:
        assert list(row.domain) == list(row.general) == [0, 3]
        assert row.tokens > 0
    changed = comparison.rows[1:4]
    assert len({row.domain[0] for row in changed}) == 3
    assert {row.tokens for row in changed} == {changed[0].tokens}
    assert comparison.bytes_per_token[1] > comparison.bytes_per_token[0]
    assert comparison.vocabulary["new_rows"] == comparison.vocabulary["added"] == 40


def test_the_bytes_of_a_window_are_recorded(comparison: TrialResult) -> None:
    windows = comparison.as_json()["windows"]
    assert set(windows) == {"domain", "general"}
    assert 0 < windows["domain"]["mean_context_bytes"] < windows["domain"]["bytes_per_window"] < 150
    assert windows["domain"]["unaligned_bytes"] == 0


def test_known_rows_are_not_measured_again(tiny_model: Path, tmp_path: Path) -> None:
    corpus = tiny_corpus(tiny_model, tmp_path)
    change = VocabularyChange.model_validate({"extend": {"tokens": 5}})
    known = {(name, 17): TrialRow(name, 17, {0: 9.0, 3: 9.0}, {}) for name in (UNCHANGED, "random")}
    (tmp_path / "scratch").mkdir()
    found = run_trial(
        tiny_model, corpus, change, METHODS[:2], SETTINGS, NullProgress(), tmp_path / "scratch", known=known
    )
    assert found.rows[:2] == list(known.values())
    assert found.rows[2].domain[0] < 9.0


def test_a_model_that_diverges_is_a_row_too(tiny_model: Path, tmp_path: Path) -> None:
    corpus = tiny_corpus(tiny_model, tmp_path)
    change = VocabularyChange.model_validate({"extend": {"tokens": 5}})
    wild = EmbeddingsConfig.model_validate({"method": "random", "std": 1e38})
    (tmp_path / "scratch").mkdir()
    found = run_trial(
        tiny_model, corpus, change, [wild, METHODS[1]], SETTINGS, NullProgress(), tmp_path / "scratch"
    )
    assert found.rows[1].failure
    assert found.rows[2].domain


def test_a_method_that_cannot_is_a_row_that_says_why(comparison: TrialResult) -> None:
    failed = comparison.rows[4]
    assert "/no/such/donor" in failed.failure
    assert failed.domain == {}
    assert comparison.ranked()[-1].failure == failed.failure
    assert comparison.as_json()["ranking"] == [row.method for row in comparison.ranked()[:3]]


def test_ranked_by_the_last_step_not_the_first() -> None:
    rows = [
        TrialRow(UNCHANGED, 17, {0: 1.0, 5: 1.0}, {}),
        TrialRow("a", 17, {0: 1.0, 5: 2.0}, {}),
        TrialRow("b", 17, {0: 3.0, 5: 1.0}, {}),
    ]
    assert [row.method for row in TrialResult((0, 5), {}, (1.0, 1.0), rows).ranked()] == ["b", "a"]


def test_every_seed_trains_in_another_order_from_the_same_rows(tiny_model: Path, tmp_path: Path) -> None:
    corpus = tiny_corpus(tiny_model, tmp_path)
    change = VocabularyChange.model_validate({"extend": {"tokens": 5}})
    alone = TrialRow("random", 17, {0: 9.0, 3: 9.0}, {0: 9.0, 3: 9.0})
    (tmp_path / "scratch").mkdir()
    found = run_trial(
        *(tiny_model, corpus, change, METHODS[:2], SETTINGS, NullProgress(), tmp_path / "scratch"),
        known={("random", 17): alone},
        seeds=2,
    )
    names = [UNCHANGED, "random", "subtoken-mean"]
    assert [(row.method, row.seed) for row in found.rows] == [(name, s) for name in names for s in (17, 18)]
    assert found.rows[2] == alone
    for first, second in (found.rows[:2], found.rows[4:]):
        assert first.domain[0] == second.domain[0]
        assert first.domain[3] != second.domain[3]
        assert first.initialisation_seconds == second.initialisation_seconds


def test_means_and_differences_are_over_seeds() -> None:
    ends = {UNCHANGED: (0.5, 0.6, 0.7), "a": (1.0, 2.0, 3.0), "b": (1.5, 2.4, 3.6)}
    rows = [TrialRow(name, seed, {5: end}, {}) for name, own in ends.items() for seed, end in enumerate(own)]
    rows += [TrialRow("c", 0, {5: 0.1}, {}), TrialRow("c", 1, {}, {}, failure="diverged")]
    result = TrialResult((5,), {}, (1.0, 1.0), rows)
    unchanged, a, b, c = result.means()
    assert [each.method for each in (unchanged, a, b, c)] == [UNCHANGED, "a", "b", "c"]
    assert (c.failure, c.domain, c.behind, a.behind, unchanged.behind) == (
        "seed 1: diverged",
        {},
        None,
        None,
        None,
    )
    half = 4.302652729911275 * 1.0 / 3**0.5  # Student's t of two degrees of freedom, deviation 1
    assert a.domain[5][:3] == pytest.approx((2.0, 2.0 - half, 2.0 + half))
    assert b.behind is not None
    assert b.behind.value == pytest.approx(0.5)
    assert b.behind.seeds == pytest.approx((0.5, 0.4, 0.6))
    facts = result.as_json()
    assert facts["ranking"] == ["a", "b"]
    assert facts["means"]["b"]["behind"]["low"] == pytest.approx(0.5 - half / 10)


def test_the_picture_names_the_methods(comparison: TrialResult, tmp_path: Path) -> None:
    plot(comparison, tmp_path / "picture.svg")
    text = (tmp_path / "picture.svg").read_text()
    assert text.startswith("<?xml")
    assert len(text) > 5000
    assert json.loads(json.dumps(comparison.as_json()))["rows"]


def test_general_text_of_one_short_document_is_enough(tiny_model: Path, tmp_path: Path) -> None:
    texts, general = tmp_path / "texts.jsonl", tmp_path / "general.jsonl"
    write_jsonl(texts, clinical_texts()[:40])
    write_jsonl(general, clinical_texts()[:1])
    corpus = build_corpus(
        tiny_model, [{"path": str(texts)}], [{"path": str(general)}], tmp_path / "corpus",
        sequence_length=64, heldout=0.1, seed=17, progress=NullProgress(),
    )  # fmt: skip
    assert has_texts(corpus, "general", "heldout")
