"""Which row goes where when vocabularies differ."""

from pathlib import Path

from merge_models import write_model

from merging.align import ABSENT, Alignment, Case, align, row_map
from merging.candidates import Vocabulary, read_candidate


def vocabulary(*tokens: str, rows: int | None = None, **roles: str) -> Vocabulary:
    return Vocabulary({token: index for index, token in enumerate(tokens)}, rows or len(tokens), roles)


def aligned(*vocabularies: Vocabulary, target: int, base: int | None = 0, least: int = 1) -> Alignment:
    names = [f"m{number}" for number in range(len(vocabularies))]
    inputs = list(range(len(vocabularies)))
    return align(names, vocabularies, inputs, base, vocabularies[target], target, least)


def described(alignment: Alignment) -> dict[int, tuple[Case, dict[int, int]]]:
    """By row of the result its case, and by model its row there."""
    return {
        int(row): (group.case, {number: int(rows[place]) for number, rows in group.sources})
        for group in alignment.groups
        for place, row in enumerate(group.rows)
    }


def test_equal_vocabularies_map_every_row_to_itself_padding_included() -> None:
    assert row_map(vocabulary("a", "b", rows=4), vocabulary("a", "b", rows=4)).tolist() == [0, 1, 2, 3]


def test_rows_are_found_by_token_and_padding_is_absent() -> None:
    target = vocabulary("b", "new", "a", rows=5)
    assert row_map(vocabulary("a", "b", rows=4), target).tolist() == [1, ABSENT, 0, ABSENT, ABSENT]


def test_a_special_token_of_another_spelling_keeps_the_row_of_its_role() -> None:
    source = vocabulary("<|end|>", "a", eos_token="<|end|>")
    target = vocabulary("a", "</s>", "<pad>", eos_token="</s>", pad_token="<pad>")
    assert row_map(source, target).tolist() == [1, 0, ABSENT]


def test_a_token_keeps_its_own_row_though_its_role_went_to_another() -> None:
    source = vocabulary("<end>", "<turn>", eos_token="<end>")
    target = vocabulary("<end>", "<turn>", "<new>", eos_token="<turn>", pad_token="<new>")
    assert row_map(source, target).tolist() == [0, 1, ABSENT]


def test_every_row_is_accounted_for() -> None:
    base, one = vocabulary("a", "b", "c"), vocabulary("b", "a", "x", "y")
    two = vocabulary("a", "x", "b", "z", rows=6)
    target = vocabulary("a", "b", "c", "x", "y", "z", rows=7)
    names = ["base", "one", "two", "all"]
    alignment = align(names, [base, one, two, target], [0, 1, 2], 0, target, 3, 1)
    assert described(alignment) == {
        0: (Case.MERGED, {0: 0, 1: 1, 2: 0}),
        1: (Case.MERGED, {0: 1, 1: 0, 2: 2}),
        2: (Case.COPIED, {0: 2}),
        3: (Case.AVERAGED, {1: 2, 2: 1}),
        4: (Case.COPIED, {1: 3}),
        5: (Case.COPIED, {2: 3}),
        6: (Case.PADDING, {3: 6}),
    }
    assert sum(alignment.counts().values()) == 7
    assert alignment.lacking == {"base": 4, "one": 3, "two": 3, "all": 0}
    assert alignment.dropped == {}


def test_a_row_that_one_of_two_models_lacks_is_merged_from_the_other() -> None:
    rows = described(aligned(vocabulary("a", "b"), vocabulary("a", "b"), vocabulary("a"), target=0))
    assert rows[1] == (Case.PARTLY, {0: 1, 1: 1})


def test_too_few_models_for_the_method_leave_the_base() -> None:
    rows = described(aligned(vocabulary("a", "b"), vocabulary("a", "b"), vocabulary("a"), target=0, least=2))
    assert rows[1] == (Case.KEPT, {0: 1})


def test_without_a_base_a_row_is_merged_from_those_that_have_it() -> None:
    three = (vocabulary("a", "b"), vocabulary("a", "b"), vocabulary("a"))
    assert described(aligned(*three, target=0, base=None))[1] == (Case.PARTLY, {0: 1, 1: 1})
    assert described(aligned(*three, target=0, base=None, least=3))[1] == (Case.AVERAGED, {0: 1, 1: 1})


def test_what_the_target_lacks_is_listed() -> None:
    listing = aligned(vocabulary("a"), vocabulary("a", "gone", "lost"), target=0).listing()
    assert listing["dropped"] == {"m1": ["gone", "lost"]}
    assert listing["counts"] == {"merged": 1}


def test_the_listing_names_tokens_models_and_roles() -> None:
    base = vocabulary("a", "<end>", eos="<end>")
    listing = aligned(base, vocabulary("a", "</s>", "new", eos="</s>"), target=1).listing()
    assert listing["groups"] == [{"case": str(Case.COPIED), "models": ["m1"], "rows": {"2": "new"}}]
    assert listing["special tokens by role"] == [{"model": "m0", "token": "<end>", "as": "</s>"}]


def test_roles_are_read_from_the_tokenizers_settings(tmp_path: Path) -> None:
    found = read_candidate("x", write_model(tmp_path / "x", 1)).vocabulary.roles
    assert found == {"bos": "<s>", "eos": "</s>"}
