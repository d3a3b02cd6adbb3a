"""The least and the most text that a corpus holds out."""

from __future__ import annotations

from pathlib import Path

import pytest
from corpus_runs import byte_model, run
from pydantic import ValidationError

from cpt.corpus import read_documents, read_index
from cpt.errors import DataError
from cpt.stages.base import Artifact
from cpt.stages.corpus.config import CorpusConfig


@pytest.fixture
def base(tmp_path: Path) -> Artifact:
    return byte_model(tmp_path)


def _files(folder: Path, count: int) -> dict[str, str]:
    folder.mkdir()
    for number in range(count):
        (folder / f"{number:03d}.txt").write_text(f"Article {number}. " + "The party shall pay. " * 13)
    return {"path": str(folder)}


def test_three_hundred_files_never_hold_out_a_single_one(base: Artifact, tmp_path: Path) -> None:
    """By default; a stage that takes more than the share says so."""
    files, settings = _files(tmp_path / "legal", 300), {"heldout": 0.001, "heldout_min": {}}
    corpus, _, messages = run(base, tmp_path, domain=[files], **settings)
    held = read_index(corpus).sources["domain"].splits["heldout"]
    assert held.documents == 8
    assert held.bytes >= 2_000
    assert any("heldout 0.001 gave less than heldout_min" in message for message in messages)


@pytest.mark.parametrize(
    ("minimum", "count"), [({"documents": 30}, 30), ({"bytes": 6_000}, 22), ({"documents": 1, "bytes": 1}, 1)]
)
def test_the_least_held_out_text_is_a_setting(
    base: Artifact, tmp_path: Path, minimum: dict[str, int], count: int
) -> None:
    corpus, _, _ = run(
        base, tmp_path, domain=[_files(tmp_path / "legal", 300)], heldout=1e-6, heldout_min=minimum
    )
    assert read_index(corpus).sources["domain"].splits["heldout"].documents == count


def test_so_is_how_much_of_the_corpus_may_be_taken_for_it(base: Artifact, tmp_path: Path) -> None:
    files = _files(tmp_path / "legal", 30)
    with pytest.raises(DataError, match=r"held-out text must have at least 8 documents"):
        run(base, tmp_path, "few", domain=[files], heldout=0.01, heldout_min={})
    corpus, _, _ = run(base, tmp_path, "more", domain=[files], heldout=0.01, heldout_min={"most": 0.4})
    assert read_index(corpus).sources["domain"].splits["heldout"].documents == 8


def test_general_text_has_the_same_minimum_before_anything_is_sampled(base: Artifact, tmp_path: Path) -> None:
    sources = {"domain": [_files(tmp_path / "legal", 300)], "general": [_files(tmp_path / "general", 7)]}
    sampled = {"replay": {"self_generated": {"tokens": 9}}}
    with pytest.raises(DataError, match="general: 7 documents of"):
        run(base, tmp_path, **sources, **sampled, heldout_min={})
    run(base, tmp_path, **sources, heldout_min={"documents": 7, "bytes": 1_900})


def test_what_is_held_out_beyond_the_share_is_in_no_training_text(base: Artifact, tmp_path: Path) -> None:
    files, more = _files(tmp_path / "legal", 60), _files(tmp_path / "more", 70)
    corpus, _, _ = run(base, tmp_path, domain=[files], replay=[more], heldout=1e-6, heldout_min={})
    held = {document.text for document in read_documents(corpus, "domain", "heldout")}
    assert len(held) == 8
    for source in ("domain", "replay"):
        assert not held & {document.text for document in read_documents(corpus, source, "train")}
    assert read_index(corpus).sources["replay"].removed_documents["duplicate_of_heldout"] == 8


def test_the_most_held_out_text_is_a_setting(base: Artifact, tmp_path: Path) -> None:
    files, held = _files(tmp_path / "legal", 300), {}
    for name, most in (("all", None), ("roomy", 100_000_000), ("few", 3_000)):
        corpus, _, messages = run(base, tmp_path, name, domain=[files], heldout=0.2, heldout_max=most)
        held[name] = [each.text for each in read_documents(corpus, "domain", "heldout")]
        counts = read_index(corpus).sources["domain"].splits
        assert counts["heldout"].documents + counts["train"].documents == 300
        assert any("gave more than heldout_max" in message for message in messages) == (name == "few")
    assert held["all"] == held["roomy"]
    assert set(held["few"]) < set(held["all"])
    assert 2_000 < sum(map(len, held["few"])) <= 3_000


def test_the_most_is_no_less_than_the_least() -> None:
    with pytest.raises(ValidationError, match=r"heldout_max: 1,000 bytes are fewer than the 2,000 of"):
        CorpusConfig(domain=[{"path": "x"}], heldout_max=1_000)
    assert CorpusConfig(domain=[{"path": "x"}]).heldout_max == 100_000_000
