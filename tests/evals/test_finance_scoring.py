"""Scores of finance answers, by hand."""

import numpy as np
import pytest

from evals.metrics import aggregate
from evals.tasks.finance.golden_touchstone import NONE, contains, credit, entities, movement, relations
from evals.tasks.finance.scoring import (
    Number,
    answer_entities,
    by_label,
    by_stance,
    by_tag,
    entity_counts,
    equal,
    numbers,
    predicted_spans,
    result,
    same_result,
    stated_number,
    tagged_spans,
    word_f1,
)
from evals.tasks.finance.tatqa import exact_and_f1, score


def test_headlines_count_every_tag_alike() -> None:
    triples = [("Price", 0, 0), ("Price", 0, 0), ("Price", 1, 1), ("Up", 1, 0)]
    assert aggregate("mean_weighted_f1", triples) == pytest.approx((1 + 0) / 2)


def test_a_tag_that_is_not_drawn_does_not_count() -> None:
    items = [("Price", 0, 0), ("Up", 0, 1)]
    assert aggregate("mean_weighted_f1", items, np.array([[2, 0], [1, 1]])).tolist() == [1.0, 0.5]


def test_the_likeliest_choice_is_the_label() -> None:
    results = [(-3.0, False), (-1.0, True), (-2.0, False)]
    assert by_label({"gold": 1}, results) == {"acc": 1.0, "weighted_f1": (1, 1)}
    assert by_stance({"label": 2}, results) == {"acc": 0.0, "weighted_f1": (2, 1)}
    assert by_tag({"gold": 1, "label_type": "Price"}, results)["mean_weighted_f1"] == ("Price", 1, 1)


@pytest.mark.parametrize(
    ("tags", "spans"),
    [
        (["B-PER", "I-PER", "O", "B-LOC"], {(0, 2, "PER"), (3, 4, "LOC")}),
        (["B-ORG", "B-ORG"], {(0, 1, "ORG"), (1, 2, "ORG")}),
        (["I-ORG", "I-PER"], {(0, 1, "ORG"), (1, 2, "PER")}),
        (["O"], set()),
    ],
)
def test_entities_of_tags(tags: list[str], spans: set[tuple[int, int, str]]) -> None:
    assert tagged_spans(tags) == spans


def test_an_entity_is_found_everywhere_where_its_words_stand() -> None:
    words = ["Acme", "Bank", "and", "Acme", "Bank", "of", "Ohio"]
    assert predicted_spans("Acme Bank, ORG\nOhio, LOC", words) == {
        (0, 2, "ORG"),
        (3, 5, "ORG"),
        (6, 7, "LOC"),
    }
    assert predicted_spans("Acme, PER\nAcme Bank, ORG", words) == {(0, 2, "ORG"), (3, 5, "ORG")}
    assert predicted_spans("acme bank, ORG\nBank\nAcme, COMPANY\n, ORG", words) == set()


def test_entities_with_commas_in_their_names() -> None:
    assert answer_entities("Acme, Inc, ORG\nBob, PER") == [("Acme, Inc", "ORG"), ("Bob", "PER")]


def test_an_entity_of_another_type_or_length_is_wrong() -> None:
    doc = {"text": "Alice Stone of Acme Bank", "label": ["B-PER", "I-PER", "O", "B-ORG", "I-ORG"]}
    assert entity_counts(doc, ["Alice Stone, PER\nAcme Bank, ORG"]) == {"entity_f1": (2, 2, 2)}
    assert entity_counts(doc, ["Alice, PER\nAcme Bank, PER"]) == {"entity_f1": (0, 2, 2)}
    assert entity_counts(doc, ["nobody"]) == {"entity_f1": (0, 0, 2)}


@pytest.mark.parametrize(
    ("text", "value", "decimals"),
    [
        ("$1,577.00", 1577.0, 2),
        (" is (12.6) million", -12.6, 1),
        ("about -0.5 %", -0.5, 1),
        ("$-3.7", -3.7, 1),
        ("-$1561M", -1561.0, None),
        ("$(1.5)", -1.5, 1),
        ("(see note 4)", 4.0, None),
        ("2019-2020", 2019.0, None),
        ("FY2018 was 7", 7.0, None),
        (".25", 0.25, 2),
    ],
)
def test_numbers_in_texts(text: str, value: float, decimals: int | None) -> None:
    assert numbers(text)[0] == Number(value, decimals)


def test_a_text_without_a_number() -> None:
    assert numbers("no, in Q3") == []
    assert stated_number("no, in Q3\n7") is None
    assert stated_number("") is None


@pytest.mark.parametrize(
    ("answer", "value"),
    [
        ("In 2018, the ratio was 65.4%.", 65.4),
        ("The ratio was 65.4% in 2018.", 65.4),
        ("The ratio of FY2018 rose from 12 to 65.4 per cent in 2018", 65.4),
        ("The answer is 65.4% in 2018, as asked.\nThe 3 other lines", 65.4),
        ("65.4\nThat is (9 - 5) = 4", 65.4),  # a first line without words is the answer
        ("We divide 1,000 by 1,529.\n1,000 / 1,529 = 65.4\nSo it is.", 65.4),
        ("First 10 / 2 = 5, then 5 x 13.08 = 65.4", 65.4),
        ("Let me see.\nThe answer is: $1,577.00 million.", 1577.0),
        ("The change was (12.6) million", -12.6),
        ("65.4% (rounded to 1 decimal)", 65.4),
        ("(about 65.4)", 65.4),  # nothing but the remark
        ("In 2018 (revenue of 65.4 million)", 65.4),  # nothing but the remark and a year of the question
        ("It fell by -0.5 % against 2018", -0.5),
        ("\n\nIn 2018", 2018.0),  # there is no other number
        ("In 2018 there were 2,018.0 of them", 2018.0),
        ("In 2019 it was 3", 3.0),  # another year, but the last number all the same
        ("Sales of 1,577 in 2017", 2017.0),  # a year that the question does not name
    ],
)
def test_the_number_that_an_answer_states(answer: str, value: float) -> None:
    found = stated_number(answer, "what was the ratio of 2018, in FY2019?")
    assert found is not None
    assert found.value == value


@pytest.mark.parametrize(
    ("written", "right", "same"),
    [
        ("14.1", "0.14136", True),
        ("0.14", "0.14136", True),
        ("0.1", "0.14136", False),
        ("14.2", "0.14136", False),
        ("0.654", "65.4", True),
        ("1577", "1577.00", True),
        ("1580", "1577.00", False),
        ("24", "24.26", False),
        ("-12", "-12.0", True),
        ("12", "-12.0", False),
        ("0", "0.0", True),
        ("0.00", "0.002", False),
    ],
)
def test_numbers_are_equal_up_to_rounding_and_percent(written: str, right: str, same: bool) -> None:
    assert equal(numbers(written)[0], numbers(right)[0]) is same


def test_results_are_numbers_or_yes_and_no() -> None:
    assert result({"answer": "0.25"}, [" 0.25"]) == {"exact_match": 1.0, "acc": 1.0}
    assert result({"answer": "0.25"}, ["The growth is 25.0%."]) == {"exact_match": 0.0, "acc": 1.0}
    assert result({"answer": "0.25"}, ["none"]) == {"exact_match": 0.0, "acc": 0.0}
    assert result({"answer": "0.25"}, ["\n\n 0.25\n7"]) == {"exact_match": 1.0, "acc": 1.0}
    assert result({"answer": "0.25"}, ["none\n0.25"]) == {"exact_match": 0.0, "acc": 0.0}
    asked = {"answer": "65.4", "query": "Context: in 2018 …\nQuestion: what was the ratio in 2018?\nAnswer:"}
    assert result(asked, ["In 2018, the ratio was 65.4%."]) == {"exact_match": 0.0, "acc": 1.0}
    assert result({**asked, "question": "and in 2017?"}, ["It was 65.4 in 2018."])["acc"] == 0
    assert same_result("Yes, they did.", "yes")
    assert same_result("We compare both.\nThe answer is yes.", "yes")
    assert not same_result("Yes? The answer is no.", "yes")
    assert not same_result("No. Not yes.", "yes")
    assert not same_result("", "no")


def test_shared_words() -> None:
    assert word_f1("The customers are airlines.", "Airlines and the government") == pytest.approx(
        2 * 1 / (3 + 3)
    )
    assert word_f1("yes", "Yes.") == 1
    assert word_f1("", "Yes") == 0


@pytest.mark.parametrize(
    ("written", "right", "scale", "exact", "f1"),
    [
        (["$1,496.5 million"], ["$1,496.5"], "million", 1, 1),
        (["1496.5"], ["$1,496.5"], "million", 0, 0),
        (["1,496,500,000"], ["$1,496.5"], "million", 1, 1),
        (["-12.6 million"], ["-12.6"], "million", 1, 1),
        (["(12.6) million"], ["-12.6"], "million", 1, 1),
        (["17.7%"], ["17.7"], "percent", 1, 1),
        (["17.7 percent"], ["17.7"], "percent", 1, 1),
        (["0.177"], ["17.7"], "percent", 1, 1),
        (["17.7"], ["17.7"], "percent", 0, 0),
        (["The cost plus a fee."], ["the cost plus a fee"], "", 1, 1),
        (["cost plus margin"], ["the cost plus a fee"], "", 0, 0.67),
        (["cost plus", "fixed price"], ["fixed price", "cost plus"], "", 1, 1),
        (["fixed price"], ["fixed price", "cost plus"], "", 0, 0.67),
        (["2018", "2019"], ["2019", "2018"], "", 1, 1),
    ],
)
def test_tatqa_by_hand(written: list[str], right: list[str], scale: str, exact: float, f1: float) -> None:
    assert exact_and_f1(written, right, scale) == (exact, f1)


def test_tatqa_calculations_have_no_partial_credit_and_lists_are_parted() -> None:
    doc = {"answers": ["2"], "scale": "", "answer_type": "count"}
    assert score(doc, ["2 types"]) == {"em": 0.0, "f1": 0.0}
    assert score({**doc, "answer_type": "span"}, ["2 types"]) == {"em": 0.0, "f1": 0.67}
    several = {"answers": ["fixed price", "cost plus", "time"], "scale": "", "answer_type": "multi-span"}
    amounts = {"answers": ["99", "93"], "scale": "thousand", "answer_type": "multi-span"}
    assert score(amounts, ["$99 and $93 thousand."]) == {"em": 1.0, "f1": 1.0}
    assert score(amounts, ["$99 and $93"]) == {"em": 0.0, "f1": 0.0}
    assert score(several, ["time, cost plus and fixed price\nQuestion: more"]) == {"em": 1.0, "f1": 1.0}


def test_touchstone_takes_the_first_label_and_counts_none_as_wrong() -> None:
    pairs = ("acc_f1", "f1_mcc", "weighted_f1", "mcc")
    assert credit({"output": "good"}, ["Good, not bad"]) == {
        "acc": 1.0,
        **dict.fromkeys(pairs, ("good", "good")),
    }
    assert credit({"output": "bad"}, ["goodness"]) == {"acc": 0.0, **dict.fromkeys(pairs, ("bad", NONE))}
    assert movement({"output": "1"}, ["It will rise"])["acc"] == 1
    assert movement({"output": "1"}, ["a decrease"])["acc"] == 0
    # a figure goes before a word, wherever it stands
    assert movement({"output": "0"}, ["It will rise by 0.5%"])["acc"] == 1
    assert movement({"output": "1"}, ["It will decrease, not rise: 1"])["acc"] == 1
    assert movement({"output": "1"}, ["10"])["mcc"] == ("1", NONE)


def test_touchstone_answers_contain_the_right_one() -> None:
    assert contains({"output": "The answer is:0.25"}, ["so 0.25 it is"]) == {"acc": 1.0}


def test_touchstone_entities_are_tags_of_the_texts_words() -> None:
    doc = {"input": "Acme Bank and Bob of Acme Bank", "output": "Acme Bank, ORG\nBob, PER"}
    tagged = {**doc, "label": ["B-ORG", "I-ORG", "O", "B-PER", "O", "B-ORG", "I-ORG"]}
    answer = ["acme bank, ORG\nBob, COMPANY"]  # a type that is none counts as an organisation
    # of each type right, found and wanted; a name is tagged once for each time that it is written
    assert entities(tagged, answer) == {"weighted_f1": (0, 0, 1, 1, 2, 2, 0, 0, 0)}
    assert entities(doc, answer) == {"weighted_f1": (0, 0, 1, 1, 2, 1, 0, 0, 0)}
    assert entities(tagged, ["Acme Bank, ORG, Acme Bank, ORG"])["weighted_f1"][3:6] == (2, 2, 2)
    # seqeval: F1 of persons 0, of organisations 1/2, weighted by 1 and 2
    assert aggregate("weighted_entity_f1", [entities(tagged, answer)["weighted_f1"]]) == pytest.approx(1 / 3)


def test_touchstone_relations_are_compared_place_by_place() -> None:
    prompt = {"instruction": "Answer as relation1: word1, word2; relation2: word3, word4", "input": "Acme"}
    gold = {**prompt, "output": "brand: X, Acme; owner_of: Y, Acme"}
    assert relations(gold, ["brand: X, Acme; owner of: Y, Acme."]) == {"relation_f1": (2, 2, 2)}
    # wrong, but named like a relation: not counted as missed
    assert relations(gold, ["owner_of: Y, Acme; brand: X, Acme"]) == {"relation_f1": (0, 2, 0)}
    assert relations(gold, ["none; nothing; more"]) == {"relation_f1": (0, 2, 2)}
    names = {"instruction": "Which relation?", "input": "Acme", "output": "owner_of"}
    assert relations(names, ["It is the owner of, perhaps"]) == {"relation_f1": (1, 1, 1)}
    assert relations(names, ["brand"]) == {"relation_f1": (0, 1, 1)}


def test_touchstone_summaries_are_compared_by_jiebas_words_and_by_characters() -> None:
    pytest.importorskip("jieba")
    pytest.importorskip("rouge_chinese")
    from evals.tasks.finance.summaries import rouge_and_bleu

    scores = rouge_and_bleu({"output": "Acme buys Borealis"}, ["Acme buys mills"])
    rouge = {"rouge1": 2 / 3, "rouge2": 1 / 2, "rougeL": 2 / 3}
    assert {name: scores[name] for name in rouge} == pytest.approx(rouge)
    assert scores["bleu"] == pytest.approx(0.547518, abs=1e-6)  # of the characters, by nltk's method3
    assert scores["rouge_bleu"] == pytest.approx((2 / 3 + 1 / 2 + 2 / 3 + scores["bleu"]) / 4)
    assert set(rouge_and_bleu({"output": "Gold falls"}, [""]).values()) == {0.0}
