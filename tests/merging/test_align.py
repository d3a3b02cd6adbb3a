"""Which row goes where when vocabularies differ."""

from pathlib import Path

import torch
from merge_models import INPUT, WORDS, weights, write_model

from merging.align import ABSENT, Vocabulary, align, choose_target, fill_absent, read_candidate, row_map


def vocabulary(*tokens: str, rows: int | None = None, **roles: str) -> Vocabulary:
    return Vocabulary({token: index for index, token in enumerate(tokens)}, rows or len(tokens), roles)


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


def test_rows_that_nobody_but_some_models_have_are_their_mean_in_the_base() -> None:
    base, one, two = torch.tensor([[1.0], [0.0]]), torch.tensor([[2.0], [4.0]]), torch.tensor([[3.0], [6.0]])
    yes, no = torch.tensor([True, True]), torch.tensor([True, False])
    assert [rows[1].item() for rows in fill_absent([base, one, two], [no, yes, yes])] == [5.0, 4.0, 6.0]
    assert [rows[1].item() for rows in fill_absent([base, one, two], [no, yes, no])] == [4.0, 4.0, 4.0]
    assert [rows[1].item() for rows in fill_absent([base, one, two], [yes, yes, no])] == [0.0, 4.0, 0.0]


def test_aligning_equal_vocabularies_copies_nothing(tmp_path: Path) -> None:
    folders = [write_model(tmp_path / name, seed) for seed, name in enumerate("ab")]
    base, model = (read_candidate(folder.name, folder) for folder in folders)
    assert align(base, [model], choose_target([model]), tmp_path / "scratch") == folders
    assert not (tmp_path / "scratch").exists()


def test_an_aligned_model_differs_in_its_vocabulary_only(tmp_path: Path) -> None:
    base = read_candidate("base", write_model(tmp_path / "base", 1))
    model = read_candidate("model", write_model(tmp_path / "model", 2, words=(*WORDS, "new"), rows=9))
    folders = align(base, [model], model, tmp_path / "scratch")
    assert folders[1] == model.folder
    before, after, other = weights(base.folder), weights(folders[0]), weights(model.folder)
    assert torch.equal(after[INPUT], torch.cat([before[INPUT], other[INPUT][6:]]))
    assert all(torch.equal(after[name], before[name]) for name in before if name != INPUT)


def test_roles_are_read_from_the_tokenizers_settings(tmp_path: Path) -> None:
    found = read_candidate("x", write_model(tmp_path / "x", 1)).vocabulary.roles
    assert found == {"bos": "<s>", "eos": "</s>"}
