"""Legal data sets in the form in which their authors give them away, in small."""

from __future__ import annotations

import csv
import json
from collections import Counter
from pathlib import Path

import pytest

from cpt.errors import DataError
from evals.sources import legal


def _legalbench(tmp_path: Path, part: str, lines: list[str]) -> dict[str, list[dict[str, object]]]:
    file = tmp_path / "tasks" / f"{part}.tsv"
    file.parent.mkdir(parents=True)
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return dict(legal.LEGALBENCH.read({"test": file}, part))


def test_legalbench_renames_the_label_and_adds_the_prompts_examples(tmp_path):
    found = _legalbench(
        tmp_path,
        "hearsay/test",
        [
            "label\ttext\tslice",
            'No\t"He said ""no"" in court."\tin court',
            "Yes\tShe wrote it down.\tstandard",
        ],
    )

    assert found["test"] == [
        {"answer": "No", "text": 'He said "no" in court.'},
        {"answer": "Yes", "text": "She wrote it down."},
    ]
    assert [row["answer"] for row in found["train"]] == ["No", "Yes", "No", "No", "Yes"]


def test_legalbench_does_not_test_what_the_prompt_shows(tmp_path):
    shown = 'The mark ""Tasty"" for bread.'
    found = _legalbench(
        tmp_path,
        "abercrombie/test",
        ["label\ttext", f'descriptive\t"{shown}"', "generic\tThe mark Bread for bread."],
    )

    assert [row["text"] for row in found["test"]] == ["The mark Bread for bread."]


def test_legalbench_without_examples_keeps_every_column(tmp_path):
    found = _legalbench(tmp_path, "rule_qa/test", ["text\tanswer\tdoctrine", "What is it?\tThis.\tEvidence"])

    assert found == {"test": [{"text": "What is it?", "answer": "This.", "doctrine": "Evidence"}]}


@pytest.mark.parametrize(
    ("published", "kind", "clause"),
    [
        ("Arbitration", "Limitation of liability", "we are not liable for any damages ."),
        ("Unilateral change", "Unilateral termination", "we may terminate your account ."),
        ("Content removal", "Unilateral change", "we may modify these terms at any time ."),
        ("Jurisdiction", "Content removal", "we may remove what you post ."),
        ("Choice of law", "Contract by using", "by using the service you agree ."),
        ("Limitation of liability", "Choice of law", "the laws of texas govern these terms ."),
        ("Unilateral termination", "Jurisdiction", "you consent to the courts of dublin ."),
        ("Contract by using", "Arbitration", "disputes are resolved by binding arbitration ."),
        ("Other", "Other", "last updated in may ."),
    ],
)
def test_legalbench_gives_unfair_terms_their_own_names(tmp_path, published, kind, clause):
    found = _legalbench(tmp_path, "unfair_tos/data", ["text\tlabel", f"{clause}\t{published}"])

    assert found["test"] == [{"answer": kind, "text": clause}]


def test_legalbench_examples_of_unfair_terms_bear_their_own_names(tmp_path):
    examples = _legalbench(tmp_path, "unfair_tos/data", ["text\tlabel", "hello\tOther"])["train"]
    told = {str(row["answer"]): str(row["text"]) for row in examples}

    assert len(told) == 9
    assert "the laws of england" in told["Choice of law"]
    assert "binding arbitration" in told["Arbitration"]
    assert "aggregate liability" in told["Limitation of liability"]


def test_legalbench_examples_of_cuad_are_three_of_each_label(tmp_path):
    rows = [json.loads(line) for line in legal._LEGALBENCH_EXAMPLES.read_text(encoding="utf-8").splitlines()]
    cuad = {row["task"] for row in rows if row["task"].startswith("CUAD_")}

    assert len(cuad) == 38
    for task in cuad:
        assert Counter(row["answer"] for row in rows if row["task"] == task) == {"Yes": 3, "No": 3}


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["kind\ttext", "No\tHello."], "neither a column `label` nor `answer`"),
        (["label\ttext", "No"], "tsv:2: not 2 fields"),
        (["label\ttext", "No\tHello.\tmore"], "tsv:2: not 2 fields"),
        (["label\tquestion", "No\tHello."], "lacks the columns text"),
    ],
)
def test_legalbench_says_what_is_wrong_with_a_file(tmp_path, lines, said):
    with pytest.raises(DataError, match=said):
        _legalbench(tmp_path, "hearsay/test", lines)


def _agreement(choices: dict[str, str]) -> dict[str, object]:
    annotations = {key: {"choice": choice, "spans": []} for key, choice in choices.items()}
    return {
        "labels": {key: {"short_description": key, "hypothesis": f"It says {key}."} for key in choices},
        "documents": [{"id": 7, "text": "We agree.", "annotation_sets": [{"annotations": annotations}]}],
    }


def test_contract_nli_pairs_agreements_with_hypotheses(tmp_path):
    file = tmp_path / "test.json"
    file.write_text(json.dumps(_agreement({"a": "Entailment", "b": "Contradiction", "c": "NotMentioned"})))

    assert legal.CONTRACT_NLI.read({"test": file}, None)["test"] == [
        {"premise": "We agree.", "hypothesis": "It says a.", "label": 1},
        {"premise": "We agree.", "hypothesis": "It says b.", "label": 0},
        {"premise": "We agree.", "hypothesis": "It says c.", "label": 2},
    ]


def test_contract_nli_refuses_another_choice(tmp_path):
    file = tmp_path / "test.json"
    file.write_text(json.dumps(_agreement({"a": "Perhaps"})))

    with pytest.raises(DataError, match="document 7, a: no such choice: 'Perhaps'"):
        legal.CONTRACT_NLI.read({"test": file}, None)


@pytest.mark.parametrize(
    ("part", "item", "row"),
    [
        ("scotus", {"issueArea": "13"}, {"label": 12}),
        ("ledgar", {"clause_type": "Governing Laws"}, {"label": 47}),
        ("unfair_tos", {"labels": ["Arbitration", "Choice of law"]}, {"labels": [5, 7]}),
        ("unfair_tos", {"labels": []}, {"labels": []}),
    ],
)
def test_lexglue_numbers_labels_as_the_hub_does(tmp_path, part, item, row):
    file = tmp_path / f"{part}.jsonl"
    items = [{"data_type": split, "text": split, **item} for split in ("train", "dev", "test")]
    file.write_text("\n".join(map(json.dumps, items)))

    found = legal.LEXGLUE.read({"all": file}, part)

    assert found == {split: [{"text": name, **row}] for split, name in _LEXGLUE_SPLITS.items()}


_LEXGLUE_SPLITS = {"train": "train", "validation": "dev", "test": "test"}


def test_lexglue_refuses_another_part(tmp_path):
    with pytest.raises(DataError, match="one of scotus, ledgar, unfair_tos, not 'eurlex'"):
        legal.LEXGLUE.read({"all": tmp_path / "eurlex.jsonl"}, "eurlex")


def test_lexglue_has_the_published_numbers_of_labels():
    assert (len(legal.ISSUE_AREAS), len(legal.PROVISIONS), len(legal.UNFAIR)) == (13, 100, 8)
    assert list(legal.PROVISIONS) == sorted(set(legal.PROVISIONS))


def _holdings(file: Path, rows: int, label: str = "3") -> None:
    with file.open("w", encoding="utf-8", newline="") as stream:
        write = csv.writer(stream).writerow
        write(["", "citing_prompt", *(f"holding_{place}" for place in range(5)), *"abcde", "label"])
        for row in range(rows):
            write([row, f"excerpt {row} (<HOLDING>)", *(f"h{place}" for place in range(5)), *"00000", label])


def test_casehold_is_split_as_in_lexglue(tmp_path, monkeypatch):
    assert legal._CASEHOLD_ITEMS == {"train": 45_000, "validation": 3_900, "test": 3_600}
    monkeypatch.setattr(legal, "_CASEHOLD_ITEMS", {"train": 5, "validation": 2, "test": 3})
    _holdings(tmp_path / "casehold.csv", 10)

    found = legal.CASEHOLD.read({"all": tmp_path / "casehold.csv"}, None)

    assert {split: len(rows) for split, rows in found.items()} == {"train": 5, "validation": 2, "test": 3}
    first = found["test"][0]
    assert first["contexts"] == ["excerpt 7 (<HOLDING>)"] * 5
    assert (first["endings"], first["label"]) == (["h0", "h1", "h2", "h3", "h4"], 3)


def test_casehold_refuses_files_of_other_length_or_labels(tmp_path):
    _holdings(tmp_path / "casehold.csv", 5)
    with pytest.raises(DataError, match="5 items; LexGLUE's file has 52500"):
        legal.CASEHOLD.read({"all": tmp_path / "casehold.csv"}, None)

    _holdings(tmp_path / "casehold.csv", 5, label="5")
    with pytest.raises(DataError, match="the label is '5', not 0 to 4"):
        legal.CASEHOLD.read({"all": tmp_path / "casehold.csv"}, None)


def _question(label: str, passage: str | None = "Four sit in a row.\n") -> str:
    options = [f"({letter}){letter.lower()}" for letter in "ABCDE"]
    return json.dumps({"passage": passage, "question": "Who sits?", "options": options, "label": label})


def test_lsat_has_agievals_prompt(tmp_path):
    (tmp_path / "lsat-ar.jsonl").write_text(f"{_question('C')}\n{_question('A', None)}\n")

    first, second = legal.LSAT_AGIEVAL.read({"test": tmp_path / "lsat-ar.jsonl"}, "ar")["test"]

    assert first["query"] == (
        "Four sit in a row.\nQ: Who sits? Answer Choices: (A)a (B)b (C)c (D)d (E)e\n"
        "A: Among A through E, the answer is"
    )
    assert (first["choices"], first["gold"]) == (["(A)a", "(B)b", "(C)c", "(D)d", "(E)e"], [2])
    assert str(second["query"]).startswith("Q: Who sits?")


@pytest.mark.parametrize("label", ["F", "", "AB"])
def test_lsat_refuses_an_answer_that_is_no_option(tmp_path, label):
    (tmp_path / "lsat-ar.jsonl").write_text(_question(label))

    with pytest.raises(DataError, match=f"'{label}', not one of its options"):
        legal.LSAT_AGIEVAL.read({"test": tmp_path / "lsat-ar.jsonl"}, "ar")
