"""Near-duplicates are found as a comparison of all pairs finds them, removed, counted and shown."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from near_copies import near_copy, unrelated

from cpt.corpus import read_documents
from cpt.corpus.build import check_sums, write_source
from cpt.corpus.documents import Document
from cpt.corpus.heldout import Always
from cpt.corpus.index import SourceCounts
from cpt.corpus.minhash import MinHash, found_by_bands
from cpt.corpus.minhash import sign as sign_in_batches
from cpt.corpus.near_duplicates import find_near_duplicates, remove_near_duplicates
from cpt.errors import DataError
from cpt.progress import NullProgress

SETTINGS = MinHash()


def sign(texts: list[str], settings: MinHash = SETTINGS) -> np.ndarray:
    return np.concatenate(list(sign_in_batches(texts, settings)))


def family(generator: np.random.Generator, size: int) -> list[str]:
    """Return a text and copies of it, most of them near."""
    [text] = unrelated(generator, 1, 60)
    return [text, *(near_copy(text, 5, int(generator.integers(0, 20)))[0] for _ in range(size - 1))]


def by_all_pairs(signatures: np.ndarray, trains: np.ndarray, settings: MinHash) -> list[int]:
    """Return the most similar document that stays for each one that does not, -1 for the others."""
    stays: list[int] = []
    found = []
    for place, signature in enumerate(signatures):
        best = -1
        rank = (False, 0.0)
        for other in stays if trains[place] else ():
            equal = signatures[other] == signature
            in_a_band = equal.reshape(settings.bands, settings.rows).all(axis=1).any()
            mine = (not trains[other], equal.mean())
            if in_a_band and equal.mean() >= settings.similarity and (best == -1 or mine > rank):
                best, rank = other, mine
        found.append(best)
        if best == -1:
            stays.append(place)
    return found


@pytest.mark.parametrize("threshold", [None, 0.0, 0.9])
def test_the_same_as_by_comparing_all_pairs(threshold: float | None) -> None:
    generator = np.random.default_rng(5)
    texts = [text for size in (1, 1, 2, 5, 9, 20) * 3 for text in family(generator, size)]
    texts = [texts[place] for place in generator.permutation(len(texts))]
    trains = np.arange(len(texts)) >= 20
    settings = MinHash(threshold=threshold)
    signatures = sign(texts, settings)
    found = find_near_duplicates(signatures, trains, settings)
    assert found.to.tolist() == by_all_pairs(signatures, trains, settings)
    removed = found.to >= 0
    assert 10 < removed.sum() < len(texts)
    assert not removed[~trains].any()
    assert not removed[found.to[removed]].any()  # what stays is what others are removed for
    alike = (signatures[removed] == signatures[found.to[removed]]).mean(axis=1)
    assert found.similarity[removed] == pytest.approx(alike)


def test_near_copies_are_found_and_unrelated_texts_stay() -> None:
    generator = np.random.default_rng(6)
    texts = unrelated(generator, 400)
    copies = [near_copy(text, 5, 5) for text in texts[:300]]
    assert {round(similarity, 3) for _, similarity in copies} == {0.901}
    every = [*texts, *(copy for copy, _ in copies)]
    found = find_near_duplicates(sign(every), np.ones(len(every), dtype=bool), SETTINGS)
    removed = np.flatnonzero(found.to >= 0)
    assert (found.to[removed] == removed - 400).all()
    assert len(removed) / 300 >= found_by_bands(0.9, 14, 8) - 4 * np.sqrt(0.0004 / 300)


def test_a_threshold_leaves_less_similar_documents() -> None:
    texts = unrelated(np.random.default_rng(7), 300)
    every = [*texts, *(near_copy(text, 5, 24)[0] for text in texts)]  # 0.6 alike
    trains = np.ones(len(every), dtype=bool)
    removed = {
        threshold: (find_near_duplicates(sign(every), trains, MinHash(threshold=threshold)).to >= 0).sum()
        for threshold in (0.0, 0.5, None, 0.8)
    }
    assert removed[0.0] == pytest.approx(300 * found_by_bands(0.6, 14, 8), abs=4 * np.sqrt(300 * 0.21 * 0.79))
    assert removed[0.0] >= removed[0.5] > removed[None] >= removed[0.8] == 0


def test_the_end_of_a_chain_stays() -> None:
    [first] = unrelated(np.random.default_rng(8), 1, 200)
    words = first.split()
    chain = [" ".join([*(f"y{n}" for n in range(13 * step)), *words[13 * step :]]) for step in range(6)]
    found = find_near_duplicates(sign(chain), np.ones(6, dtype=bool), MinHash(threshold=0.8))
    stays = np.flatnonzero(found.to == -1).tolist()
    assert found.to[1] == 0
    assert len(stays) > 1
    assert all(found.similarity[place] >= 0.8 for place in range(6) if place not in stays)


def corpus(folder: Path, **texts: list[str]) -> dict[str, SourceCounts]:
    """Write sources by name; those called `..._heldout` are held out."""
    sources: dict[str, SourceCounts] = {}
    for name, documents in texts.items():
        source, _, side = name.partition("_")
        items = [Document(f"{name}:{number}", text) for number, text in enumerate(documents)]
        counts = write_source(folder, source, items, Always("heldout" if side else "train"), set())
        if source in sources:
            both = sources[source]
            both.documents_in += counts.documents_in
            both.bytes_in += counts.bytes_in
            both.splits |= counts.splits
        else:
            sources[source] = counts
    return sources


def texts_of(folder: Path, source: str, side: str = "train") -> list[str]:
    return [document.text for document in read_documents(folder, source, side)]


def test_within_and_across_sources_the_first_stays(tmp_path: Path) -> None:
    generator = np.random.default_rng(9)
    a, b, c, d, e, f = unrelated(generator, 6)
    near = {text: near_copy(text, 5, 3)[0] for text in (a, b, c, d)}
    given = {
        "general_heldout": [a, "..."],
        "domain_heldout": [b],
        "domain": [near[a], c, near[b], near[c], e, "...", "short", "Short!"],
        "replay": [near[a], near[c], near[d], d, f, "..."],
    }
    sources = corpus(tmp_path, **given)
    bytes_in = {name: counts.bytes_in for name, counts in sources.items()}
    examples = remove_near_duplicates(tmp_path, sources, SETTINGS, tmp_path / "work", NullProgress())
    assert texts_of(tmp_path, "domain") == [c, e, "...", "short"]
    assert texts_of(tmp_path, "replay") == [near[d], f, "..."]
    assert texts_of(tmp_path, "general", "heldout") == [a, "..."]
    assert texts_of(tmp_path, "domain", "heldout") == [b]
    removed = {name: counts.removed_documents for name, counts in sources.items()}
    assert {reason: count for reason, count in removed["domain"].items() if count} == {
        "near_duplicate": 2,
        "near_duplicate_of_heldout": 2,
    }
    assert {reason: count for reason, count in removed["replay"].items() if count} == {
        "near_duplicate": 2,
        "near_duplicate_of_heldout": 1,
    }
    for name, counts in sources.items():
        check_sums(counts)
        assert counts.bytes_in == bytes_in[name]
    shown = {(each.source, each.id): each for each in examples}
    assert shown.keys() == {("domain", f"domain:{place}") for place in (0, 2, 3, 7)} | {
        ("replay", f"replay:{place}") for place in (0, 1, 3)
    }
    example = shown["replay", "replay:1"]
    assert (example.block, example.after) == ("near_duplicate", None)
    assert example.before.endswith("x0 x1 x2")  # both around their first difference
    assert c.endswith(example.like or "none")
    assert example.detail.endswith("% like domain: domain:1")
    assert shown["domain", "domain:2"].block == "near_duplicate_of_heldout"
    assert shown["domain", "domain:2"].detail.endswith("like domain: domain_heldout:0")
    assert not (tmp_path / "work" / "signatures").exists()


def test_the_order_of_documents_decides_only_which_is_first(tmp_path: Path) -> None:
    generator = np.random.default_rng(10)
    families = [[text, *(near_copy(text, 5, k)[0] for k in (1, 2))] for text in unrelated(generator, 30)]
    texts = [text for each in families for text in each]
    family_of = {text: number for number, each in enumerate(families) for text in each}
    kept = []
    for seed in range(3):
        order = [texts[place] for place in np.random.default_rng(seed).permutation(len(texts))]
        folder = tmp_path / str(seed)
        remove_near_duplicates(folder, corpus(folder, domain=order), SETTINGS, folder, NullProgress())
        stays = texts_of(folder, "domain")
        first = {family_of[text]: text for text in reversed(order)}
        assert sorted(stays) == sorted(first.values())
        kept.append({family_of[text] for text in stays})
    assert kept == [set(range(30))] * 3


def test_what_a_killed_attempt_left_changes_nothing(tmp_path: Path) -> None:
    texts = [text for each in range(5) for text in family(np.random.default_rng(each), 8)]
    results = []
    for folder in (tmp_path / "a", tmp_path / "b"):
        (folder / "work").mkdir(parents=True)
        if folder.name == "b":
            (folder / "work" / "signatures").write_bytes(b"half of a signature" * 1000)
        sources = corpus(folder, domain=texts)
        examples = remove_near_duplicates(folder, sources, SETTINGS, folder / "work", NullProgress())
        results.append((texts_of(folder, "domain"), sources, examples))
    assert results[0] == results[1]


def test_a_source_of_copies_alone_is_refused(tmp_path: Path) -> None:
    texts = unrelated(np.random.default_rng(11), 3)
    sources = corpus(tmp_path, domain=texts, replay=[near_copy(text, 5, 2)[0] for text in texts])
    with pytest.raises(DataError, match="replay: all 3 training documents are near-duplicates"):
        remove_near_duplicates(tmp_path, sources, SETTINGS, tmp_path, NullProgress())
