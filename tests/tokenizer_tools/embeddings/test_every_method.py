"""What holds of every method, whatever it does: the shape, type and soundness of its rows, and seeds."""

import pytest
import torch
from safetensors.torch import load_file
from tiny import write_tiny_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from cpt.errors import CptError
from tokenizer_tools.embeddings import Role, Rule, method, methods, names
from tokenizer_tools.transfer import Transfer, plan_transfer

WITHOUT_TEXTS = [name for name, found in methods() if not (found.needs_texts or found.needs)]
ROLES: tuple[Role, ...] = ("input", "output", "tied", "bias")


@pytest.fixture(scope="module")
def transfer(tmp_path_factory: pytest.TempPathFactory) -> Transfer:
    """30 more tokens of the same text, and a special one, which no source token spells."""
    folder = tmp_path_factory.mktemp("models")
    source, target = write_tiny_model(folder / "old"), write_tiny_model(folder / "new", 1, vocabulary=330)
    tokenizer = AutoTokenizer.from_pretrained(target)
    tokenizer.add_special_tokens({"mask_token": "<mask>"})
    tokenizer.save_pretrained(target)
    model = AutoModelForCausalLM.from_pretrained(target)
    model.resize_token_embeddings(331, mean_resizing=False)
    model.save_pretrained(target)
    made = plan_transfer(source, target, source)
    assert [len(pieces) > 0 for pieces in made.pieces] == [True] * 30 + [False]
    return made


@pytest.fixture(scope="module")
def matrix(transfer: Transfer) -> torch.Tensor:
    return load_file(transfer.model / "model.safetensors")["model.embed_tokens.weight"]


def rule(name: str, transfer: Transfer) -> Rule:
    """The method's rule with its defaults; where it takes another model, the one with the new tokens."""
    found = method(name)
    fields = found.parameters.model_fields.items()
    models = {field: transfer.target.folder for field, info in fields if "Path" in str(info.annotation)}
    try:
        return found.prepare(transfer, found.parameters(**models))
    except CptError as error:
        pytest.skip(f"{name} cannot be used here: {error}")


@pytest.mark.parametrize("name", WITHOUT_TEXTS)
def test_rows_are_sound(name: str, transfer: Transfer, matrix: torch.Tensor) -> None:
    make = rule(name, transfer)
    for role in ROLES:
        source = matrix[:, :1] if role == "bias" else matrix
        for dtype in (torch.float32, torch.bfloat16):
            rows = make(source.to(dtype), role)
            assert rows.shape == (len(transfer.new), source.shape[1])
            assert rows.dtype == dtype
            assert rows.isfinite().all()
            assert role == "bias" or (rows.norm(dim=1) > 0).all()


@pytest.mark.parametrize("name", WITHOUT_TEXTS)
def test_the_source_is_left_as_it_is(name: str, transfer: Transfer, matrix: torch.Tensor) -> None:
    source = matrix.clone()
    rule(name, transfer)(source, "tied")
    assert torch.equal(source, matrix)


@pytest.mark.parametrize("name", WITHOUT_TEXTS)
def test_the_same_seed_makes_the_same_rows(name: str, transfer: Transfer, matrix: torch.Tensor) -> None:
    torch.manual_seed(1)
    first = rule(name, transfer)(matrix, "input")
    torch.manual_seed(2)
    assert torch.equal(first, rule(name, transfer)(matrix, "input"))


@pytest.mark.parametrize("name", names())
def test_every_method_says_what_it_is(name: str) -> None:
    found = method(name)
    assert found.summary
    assert found.reference.startswith("https://")
    for field, info in found.parameters.model_fields.items():
        assert info.description, field
        assert not info.is_required(), field


def test_an_unknown_method() -> None:
    with pytest.raises(KeyError):
        method("subtoken_mean")
