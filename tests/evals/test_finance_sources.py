"""Finance data sets in their authors' form: what is read, and what is refused."""

import json
from pathlib import Path

import pytest
from finance_files import FPB, HEADLINES, NER_INSTRUCTION, conversation, write_finance_data

from cpt.errors import DataError
from evals.local_data import DataFolder
from evals.sources import Rows, sources


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> DataFolder:
    return DataFolder(write_finance_data(tmp_path_factory.mktemp("sources")))


def read(data: DataFolder, name: str, part: str | None = None) -> dict[str, Rows]:
    found = data.find(sources()[name], part)
    assert found.complete
    return dict(found.source.read(found.files, part))


def test_phrasebank_is_parted_by_the_sentences_themselves(data: DataFolder, tmp_path: Path) -> None:
    rows = read(data, "fpb")
    texts = {split: [row["text"] for row in rows[split]] for split in rows}
    assert sorted(texts["train"] + texts["test"]) == sorted(text for text, _ in FPB)
    assert {row["text"]: row["answer"] for split in rows.values() for row in split} == dict(FPB)
    twice = tmp_path / "Sentences_50Agree.txt"
    twice.write_bytes("".join(f"{text}@{label}\n" for text, label in reversed(FPB * 2)).encode("iso-8859-1"))
    again = sources()["fpb"].read({"sentences": twice}, None)
    assert {row["text"] for row in again["test"]} == set(texts["test"])
    assert len(again["test"]) == 2 * len(texts["test"])


def test_phrasebank_in_its_authors_encoding(tmp_path: Path) -> None:
    file = tmp_path / "Sentences_50Agree.txt"
    file.write_bytes("Sales of Nordström @ 5 EUR rose@positive\r\n".encode("iso-8859-1"))
    (row,) = [row for split in sources()["fpb"].read({"sentences": file}, None).values() for row in split]
    assert row == {
        "text": "Sales of Nordström @ 5 EUR rose",
        "choices": ["positive", "negative", "neutral"],
        "gold": 0,
        "answer": "positive",
    }


@pytest.mark.parametrize("line", ["no label", "a sentence@good"])
def test_phrasebank_names_the_line_that_is_wrong(tmp_path: Path, line: str) -> None:
    file = tmp_path / "Sentences_50Agree.txt"
    file.write_text(f"fine@neutral\n{line}\n")
    with pytest.raises(DataError, match=r"Sentences_50Agree\.txt:2"):
        sources()["fpb"].read({"sentences": file}, None)


def test_an_item_under_many_prompts_is_one(data: DataFolder) -> None:
    assert {split: len(rows) for split, rows in read(data, "fiqa_sa").items()} == dict.fromkeys(
        ("train", "valid", "test"), 5
    )
    assert {split: len(rows) for split, rows in read(data, "ner").items()} == {"valid": 5, "test": 5}


def test_headlines_of_the_examples_are_not_asked(data: DataFolder) -> None:
    rows = read(data, "headlines")
    assert {row["text"] for row in rows["train"]} == set(HEADLINES[:20])
    assert {row["text"] for row in rows["test"]} == set(HEADLINES[20:])
    assert rows["test"][0]["label_type"] == "Price or Not"
    assert rows["test"][1]["gold"] == 0
    assert rows["test"][2]["gold"] == 1


def test_conversations_are_counted(data: DataFolder) -> None:
    rows = read(data, "convfinqa")["test"]
    assert [(row["dialogue_id"], row["turn"]) for row in rows] == [
        (0, 0),
        (0, 1),
        (0, 2),
        (1, 0),
        (1, 1),
        (1, 2),
    ]


def test_answers_of_any_kind_become_texts(data: DataFolder) -> None:
    (context,) = read(data, "tatqa")["test"]
    assert [asked["answer"] for asked in context["questions"]][2:5] == [
        ["fixed price", "cost plus"],
        ["-12.6"],
        ["17.7"],
    ]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("fiqa_sa", conversation("What else?", "Positive"), "no prompt begins with"),
        (
            "fiqa_sa",
            conversation(
                "What is the sentiment of the following financial post: Positive, Negative, or Neutral?\nx",
                "Good",
            ),
            "'Good', not one of",
        ),
        ("headlines", conversation("Consider the moon.\nText: x\nAnswer:", "Yes"), "nine tags"),
        ("finqa", {"id": "x"}, r"line\.jsonl:1: not a conversation"),
        ("financebench", {"question": "x"}, r"line\.jsonl:1: not a question"),
        ("tatqa", [{"table": {}}], "not a table"),
        ("tatqa", {}, "not a list"),
        ("convfinqa", [{"annotation": {"turn_ind": 0}}], "entry 0"),
        ("golden_touchstone", [{"input": "x"}], "not a list of objects with instruction"),
    ],
)
def test_another_form_is_refused(tmp_path: Path, name: str, content: object, said: str) -> None:
    file = tmp_path / "line.jsonl"
    file.write_text(json.dumps(content))
    source = sources()[name]
    with pytest.raises(DataError, match=said):
        source.read(dict.fromkeys(source.files, file), None)


def test_tags_must_fit_the_words(tmp_path: Path) -> None:
    file = tmp_path / "ner.jsonl"
    file.write_text(json.dumps(conversation(NER_INSTRUCTION, "", text="two words", label=["O"])))
    with pytest.raises(DataError, match="one tag for each"):
        sources()["ner"].read({"test": file}, None)


@pytest.mark.parametrize("label", ["3", "hawkish", ""])
def test_a_stance_is_one_of_three(tmp_path: Path, label: str) -> None:
    file = tmp_path / "test.csv"
    file.write_text(
        f"index,sentence,year,label,orig_index\n0,Rates rise.,2015,1,0\n1,Rates fall.,2015,{label},1\n"
    )
    with pytest.raises(DataError, match=r"test\.csv:3"):
        sources()["fomc"].read({"test": file}, None)
