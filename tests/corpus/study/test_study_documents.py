"""Questions, reading documents and recall items made of mined facts."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

import pytest
from invented import LINES, definition, glossary_text, term, word

from cpt.corpus.documents import Document
from cpt.corpus.study.facts import Facts
from cpt.corpus.study.items import Item, is_trained
from cpt.corpus.study.language import Language, load_language, places, plain_wording, worded
from cpt.corpus.study.mining import Counts, LabelBalance, Mined, Mining, miner_of, surplus
from cpt.corpus.study.questions import MOST_IN_A_DOCUMENT, ask, prompts_and_answers, question_documents
from cpt.corpus.study.reading import reading_documents, without
from cpt.corpus.study.recall_items import recall_items
from cpt.corpus.study.settings import MINERS, OPEN, StudySettings
from cpt.corpus.study.shuffled import shuffled_document
from cpt.errors import DataError


def glossary(number: int) -> Document:
    return Document(f"doc-{number}", glossary_text(number))


DOCUMENTS = [glossary(number) for number in range(60)]


@pytest.fixture(scope="module")
def english() -> Language:
    return load_language("en")


def mined(documents: list[Document], *names: str) -> list[Mined]:
    return mined_with(Facts(0.5, 17), documents, *names)


def mined_with(facts: Facts, documents: list[Document], *names: str) -> list[Mined]:
    mining = Mining(lambda: iter(documents), names or ("glossary",), load_language("en"), facts, 17)
    return [each for document in documents for each in mining.items(document)]


def counted(found: list[Mined]) -> dict[str, dict[str, int]]:
    counts = Counts()
    for each in found:
        counts.add(each)
    return counts.as_json()


def facts_of(found: list[Mined], share: float = 0.5, seed: int = 17) -> Facts:
    facts = Facts(share, seed)
    for each in found:
        facts.add(each)
    return facts


def settings(**changes: object) -> StudySettings:
    return StudySettings.model_validate({"miners": ["glossary"], **changes})


def asked(
    found: list[Mined], facts: Facts, language: Language, seed: int = 17, **changes: object
) -> list[Document]:
    return list(question_documents(ask(found, facts, language, settings(**changes), seed), seed))


def read(
    document: Document,
    found: list[Mined],
    share: float,
    language: Language,
    balance: LabelBalance | None = None,
    **changes: object,
) -> list[Document]:
    facts, balance = facts_of(found, share), balance or LabelBalance({})
    return list(reading_documents(document, found, facts, language, settings(**changes), 17, balance))


def test_a_glossary_is_asked_in_both_directions() -> None:
    found = mined(DOCUMENTS[:1])
    assert counted(found) == {"glossary": {"define": LINES, "name": LINES}}
    first, second = found[:2]
    assert (first.item.answer, first.item.reverse) == (definition(0, 0), False)
    assert (second.item.answer, second.item.reverse) == (term(0, 0), True)
    assert first.item.fact == second.item.fact
    begin, end = first.item.span
    assert DOCUMENTS[0].text[begin:end] == f"{term(0, 0)}: {first.item.answer}"


@pytest.mark.parametrize(
    "text",
    [
        "Nurse: How do you feel today, Mrs Bell?\nShe did not answer at first.\nNurse: Take your time.",
        "Note: this line alone is no glossary at all\nAnother line without a colon follows here.",
        "one: a first line of a list\ntwo: a second line of a list\nthree: only three of them here",
        "Lunch: bread with cheese and fruit\nTea: black tea without sugar\nDinner: soup with beans and rice\n"
        "Snack: a handful of dried plums",
        "Step 1: turn off the big mill\nStep 2: empty the long trough\nStep 3: clean the old stones\n"
        "Step 4: start the mill again",
    ],
)
def test_lines_that_look_alike_are_no_glossary(text: str) -> None:
    assert mined([Document("a", text)]) == []


def test_every_miner_has_one_class_and_its_kind(english: Language) -> None:
    for name in MINERS:
        miner = miner_of(name, english)
        assert miner.name == name
        assert miner.closed == (name not in OPEN)


def test_only_facts_to_be_trained_on_are_asked_and_only_the_answers_count(english: Language) -> None:
    found = mined(DOCUMENTS)
    made = asked(found, facts_of(found), english)
    pairs = [pair for document in made for pair in prompts_and_answers(document)]
    answers = {answer for _, answer in pairs}
    for each in found:
        if not is_trained(each.item.fact, 0.5, 17):
            assert each.item.answer not in answers
    facts = {each.item.fact for each in found if is_trained(each.item.fact, 0.5, 17)}
    assert 0.35 < len(facts) / (60 * LINES) < 0.65
    for document in made:
        ends = [end for end, _ in document.loss_weights]
        assert ends == sorted(ends)
        assert ends[-1] == len(document.text)
        assert len(list(prompts_and_answers(document))) <= MOST_IN_A_DOCUMENT
        assert [weight for _, weight in document.loss_weights] == [0.0, 1.0] * (len(ends) // 2)


def test_a_fact_is_asked_in_so_many_forms_all_different(english: Language) -> None:
    found = mined(DOCUMENTS[:4])
    for forms in (1, 6):
        made = asked(found, facts_of(found, 1), english, forms=forms)
        pairs = [pair for document in made for pair in prompts_and_answers(document)]
        assert len(pairs) == len(set(pairs)) == 4 * LINES * forms


def test_no_question_is_asked_in_an_unseen_wording(english: Language) -> None:
    found = mined(DOCUMENTS[:4])
    made = asked(found, facts_of(found, 1), english, forms=99)
    prompts = {prompt for document in made for prompt, _ in prompts_and_answers(document)}
    for item in (each.item for each in found):
        trained, unseen = (
            [worded(item, wording, 17).prompt for wording in english.wordings(item.task, unseen=unseen)]
            for unseen in (False, True)
        )
        assert prompts.issuperset(trained)  # so that every wording there is would be seen
        assert not any(asked in prompt for asked in unseen for prompt in prompts)


def test_an_unseen_wording_is_a_trained_one_of_no_task(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert plain_wording("Flash card. Front: {question} Back:") == plain_wording(
        "FLASH CARD\nFront: {term}\nBack:"
    )
    assert plain_wording("{term} is") != plain_wording("Is {term}")
    monkeypatch.setattr("cpt.corpus.study.language.FOLDER", tmp_path)

    def write(code: str, front: str) -> None:
        (tmp_path / code).mkdir()
        for miner, trained, unseen in (("a", "Card. Front: {term} Back:", "A"), ("b", "B", front)):
            tasks = {
                "trained": [trained, *(f"{miner} asks {letter}" for letter in "abcdefghi")],
                "unseen": [unseen, *(f"{miner} probes {letter}" for letter in "ab")],
            }
            (tmp_path / code / f"{miner}.yaml").write_text(json.dumps({"wordings": {"task": tasks}}))

    write("xa", "Card, front: {question}\nBack:")
    write("xb", "Card, back: {question}\nFront:")
    with pytest.raises(DataError, match=r"Back:' of b\.task is one that a\.task is trained on"):
        load_language("xa")
    assert load_language("xb").code == "xb"


def test_no_document_asks_for_a_fact_twice_or_holds_a_passage(english: Language) -> None:
    found = mined(DOCUMENTS[:3])
    texts = {document.text for document in DOCUMENTS}
    for document in asked(found, facts_of(found, 1), english):
        assert not any(text in document.text for text in texts)
        named = Counter(
            each.item.fact
            for prompt, answer in prompts_and_answers(document)
            for each in found
            if not each.item.reverse and (each.item.fields["definition"] in f"{prompt} {answer}")
        )
        assert set(named.values()) <= {1}


def test_the_same_seed_makes_the_same_documents_and_another_others(english: Language) -> None:
    found = mined(DOCUMENTS[:10])
    first, again, other = (
        [document.text for document in asked(items, facts_of(items, seed=seed), english, seed)]
        for seed, items in ((17, found), (17, found[::-1]), (18, found))
    )
    assert first == again != other  # in any order of the items


def test_a_passage_has_tasks_of_every_miner_but_none_on_untrained_facts(english: Language) -> None:
    document = DOCUMENTS[7]
    found = mined([document])
    (made,) = read(document, found, 1, english, tasks=2)
    assert made.loss_weights == ()
    seen, _, *tasks = made.text.split("\n\n")
    assert len(tasks) == 2
    assert seen.startswith("Mills 7\nThey grind salt.\n")
    for task in tasks:  # the line that answers a task is not in sight
        (asked,) = (each.item for each in found[::2] if each.item.answer in task)
        assert asked.answer not in seen
    (one,) = read(document, found, 1, english, tasks=1)
    assert len(one.text) < len(made.text)
    assert read(document, found, 0, english) == []


def test_a_sentence_that_states_the_fact_of_a_task_once_more_is_left_out(english: Language) -> None:
    terms, said = ([make(7, line) for line in range(LINES)] for make in (term, definition))
    pairs = list(zip(terms, said, strict=True))
    again = [f"In other words, the {each}s are {told.rsplit(' ', 2)[0]} too." for each, told in pairs]
    named = [f"The {each} stands {told.split()[0]} in the north." for each, told in pairs]
    document = Document("a", f"{glossary_text(7)}{' '.join([*again, *named])}\nIt is all.\n")
    found = mined([document], "glossary")
    (made,) = read(document, found, 1, english, tasks=2)
    seen, _, *tasks = made.text.split("\n\n")
    assert len(tasks) == 2
    assert seen.endswith("It is all.")
    for each, told, second, other in zip(terms, said, again, named, strict=True):
        is_asked = any(told in task for task in tasks)
        assert (f"{each}: {told}" in seen, second in seen) == (not is_asked, not is_asked)
        assert other in seen


def test_labels_are_balanced_in_what_is_written(english: Language) -> None:
    text = "Heading\n" + "\n".join(f"The {n} mill is old. It is kept well by its owner." for n in range(40))
    document = Document("a", text)
    found = []
    for number in range(40):
        begin = text.index(f"The {number} mill")
        label = "yes" if number % 4 else "no"
        fields, span = {"first": f"a{number}", "second": "b"}, (begin, begin + 9)
        item = Item("relation.entails", f"f{number}", label, fields, ("yes", "no"), label=label, span=span)
        found.append(Mined(item, "a", "relation", closed=False))
    answers: Counter[str] = Counter()

    class Counting(LabelBalance):
        def add(self, item: Item) -> None:
            answers[item.label] += 1
            super().add(item)

    balance = Counting({"relation.entails": ["yes", "no"]})
    made = read(document, found, 1, english, balance, passage=200)
    assert len(made) >= 6
    assert abs(answers["yes"] - answers["no"]) <= 1


def test_what_answers_a_task_is_left_out_of_its_passage() -> None:
    text = "The salt mill\nIt stands at the coast.\nSummary\nIt grinds salt.\nIt is old.\nThe end."
    begin = text.index("It grinds")
    hidden = [(begin, text.index("\nThe end")), (0, len("The salt mill"))]
    assert without(text, 0, len(text), hidden) == "It stands at the coast.\nSummary\nThe end."
    assert without(text, 20, len(text), hidden[1:]) == text[20:].strip()


def test_recall_items_are_of_four_groups_in_unseen_words(english: Language) -> None:
    found, held_out = mined(DOCUMENTS[:40]), mined(DOCUMENTS[40:])
    divided = facts_of([*found, *held_out])
    trained = [each.item for each in ask(found, divided, english, settings(), 17)]
    probed = [each for each in found if divided.may_probe(each)]
    items, again = (
        list(recall_items(*given, found, divided, english, settings(probe=30), 17))
        for given in ((trained, probed, held_out), (trained[::-1], probed[::-1], held_out[::-1]))
    )
    assert items == again
    assert Counter(item.group for item in items) == dict.fromkeys(
        ("trained", "untrained", "reversed", "absent"), 30
    )
    answers = {each.item.fact: {each.item.answer for each in mined(DOCUMENTS)} for each in mined(DOCUMENTS)}
    known = {each.item.fact for each in found}
    prompts = [
        wording.split("{")[0] for task in ("define", "name") for wording in english.unseen[f"glossary.{task}"]
    ]
    for item in items:
        assert len(set(item.choices)) == 4
        assert item.choices[item.answer] in answers[item.fact]
        assert (item.fact in known) == (item.group != "absent")
        assert is_trained(item.fact, 0.5, 17) == (item.group == "trained") or item.group == "absent"
        assert any(item.question.startswith(prompt) for prompt in prompts)
    for group in ("trained", "untrained", "reversed", "absent"):
        facts = [item.fact for item in items if item.group == group]
        assert len(set(facts)) == len(facts)
    places_of_answers = Counter(item.answer for item in items)
    assert all(15 <= places_of_answers[place] <= 45 for place in range(4))


def test_terms_with_an_article_are_asked_for_by_their_definitions(english: Language) -> None:
    """Only words that a question shows may give its answer away: "a brolum" stands in no question for it."""
    told = [f"A {word('n', number)} is a {definition(number, 0)} of salt." for number in range(40)]
    found = mined([Document(str(number), text) for number, text in enumerate(told)], "copular")
    divided = facts_of(found)
    probed = [each for each in found if divided.may_probe(each)]
    items = list(recall_items([], probed, [], found, divided, english, settings(miners=["copular"]), 17))
    asked_for = {item.fact for item in items if item.group == "reversed"}
    assert asked_for == {each.item.fact for each in probed} != set()
    assert not any(item.choices[item.answer] in item.question for item in items)


def test_a_shuffled_document_has_the_same_sentences_in_other_places(english: Language) -> None:
    text = (
        "Mills of the coast\nOne stands here. Two stand there!  Three were lost. Four remain.\nA last line.\n"
    )
    made = shuffled_document(Document("a", text), english, 17)
    assert made is not None
    first, second, third = made.text.splitlines()
    assert (first, third) == ("Mills of the coast", "A last line.")
    assert sorted(re.findall(r"\w[^.!]*[.!]", second)) == sorted(
        re.findall(r"\w[^.!]*[.!]", text.splitlines()[1])
    )
    assert made.text != text
    assert len(made.text) == len(text)
    assert shuffled_document(Document("a", "One line.\nAnother one."), english, 17) is None


def test_labels_are_balanced_to_the_rarest() -> None:
    labels = {("entails", True): {"yes": [f"y{n}" for n in range(9)], "no": [f"n{n}" for n in range(4)]}}
    dropped = surplus(labels, 17)
    assert len(dropped) == 5
    assert all(key.startswith("y") for key in dropped)
    assert surplus({("entails", True): {"yes": ["a"]}}, 17) == {"a"}  # a label alone tells nothing


def test_options_are_listed_with_letters_or_without(english: Language) -> None:
    item = Item("choice.gap", "f", "heron", options=("heron", "stork", "egret"))
    wording = "Which bird?\n{options}\nAnswer:"
    found = [worded(item, wording, key) for key in range(200)]
    lettered = [each for each in found if each.answer != "heron"]
    assert 0.1 < len(lettered) / 200 < 0.3
    for each in lettered:
        assert f"{each.answer}. heron" in each.prompt
    assert {each.prompt.index("heron") for each in found}.__len__() > 2
    assert places(wording) == {"options"}


def test_a_language_without_files_is_an_error_that_names_the_others() -> None:
    with pytest.raises(DataError, match="no wordings in the language 'xx': there are en"):
        load_language("xx")
