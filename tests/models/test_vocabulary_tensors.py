"""The tensors with one row per token, in every architecture, against what transformers makes of them."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_architectures import ARCHITECTURES, load_architecture, outputs, write_architecture

from cpt.errors import DataError
from cpt.models.loading import counts_positions_from_padding, generates
from cpt.models.vocabulary import check_shapes, vocabulary_tensors, write_resized
from cpt.models.weights import load_tensor, stored_tensors

ROWS = 40


@pytest.fixture(params=list(ARCHITECTURES))
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_they_are_the_embeddings_and_the_bias_of_the_loaded_model(kind: str, tmp_path: Path) -> None:
    folder = write_architecture(tmp_path, kind, ROWS)
    found, stored = vocabulary_tensors(folder), stored_tensors(folder)
    model = load_architecture(folder, kind)
    head = model.get_output_embeddings()
    assert torch.equal(load_tensor(stored[found.input], found.input), model.get_input_embeddings().weight)
    assert found.tied == (head is not None and head.weight is model.get_input_embeddings().weight)
    if head is not None and not found.tied:
        assert found.output is not None
        assert torch.equal(load_tensor(stored[found.output], found.output), head.weight)
    assert set(found.names) == {name for name, tensor in stored.items() if ROWS in tensor.shape}


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("output bias", "lm_head.bias"),
        ("masked encoder", "cls.predictions.bias"),
        ("masked encoder counting positions", "lm_head.bias"),
        ("encoder-decoder with bias", "final_logits_bias"),
        ("encoder without head", None),
    ],
)
def test_the_bias_is_named(kind: str, name: str | None, tmp_path: Path) -> None:
    assert vocabulary_tensors(write_architecture(tmp_path, kind, ROWS)).bias == name


@pytest.mark.parametrize(
    ("kind", "copies"),
    [
        ("tied decoder", {"lm_head.weight": "model.embed_tokens.weight"}),
        (
            "masked encoder",
            {
                "cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight",
                "cls.predictions.decoder.bias": "cls.predictions.bias",
            },
        ),
        (
            "tied encoder-decoder",
            dict.fromkeys(
                ["encoder.embed_tokens.weight", "decoder.embed_tokens.weight", "lm_head.weight"],
                "shared.weight",
            ),
        ),
    ],
)
def test_what_is_stored_twice_is_replaced_twice(kind: str, copies: dict[str, str], tmp_path: Path) -> None:
    """As older versions of transformers stored models."""
    folder, new = write_architecture(tmp_path / "old", kind, ROWS), tmp_path / "new"
    file = folder / "model.safetensors"
    tensors = load_file(file)
    save_file(
        tensors | {copy: tensors[name].clone() for copy, name in copies.items()}, file, {"format": "pt"}
    )
    found = vocabulary_tensors(folder)
    assert found.tied
    assert set(copies) == {found.output} | set(found.copies)
    replaced = {
        name: torch.cat([tensors[name], tensors[name][:3]]) for name in (found.input, found.bias) if name
    }
    write_resized(folder, new, {**replaced, str(found.output): replaced[found.input]}, ROWS + 3)
    check_shapes(new)
    ids = torch.tensor([[5, 7, 9]])
    before, after = (outputs(load_architecture(where, kind), ids) for where in (folder, new))
    assert torch.allclose(after[..., :ROWS], before, atol=1e-6)


def test_a_base_model_stored_with_the_names_of_a_larger_one_is_found(tmp_path: Path) -> None:
    folder = write_architecture(tmp_path, "encoder without head", ROWS)
    file = folder / "model.safetensors"
    save_file({f"bert.{name}": tensor for name, tensor in load_file(file).items()}, file, {"format": "pt"})
    assert vocabulary_tensors(folder).input == "bert.embeddings.word_embeddings.weight"


def test_an_architecture_that_is_not_named_is_that_of_the_model_type(tmp_path: Path) -> None:
    folder = write_architecture(tmp_path, "tied decoder", ROWS)
    config = (folder / "config.json").read_text()
    (folder / "config.json").write_text(config.replace('"LlamaForCausalLM"', ""))
    assert vocabulary_tensors(folder).tied


def test_missing_embeddings_are_named(tmp_path: Path) -> None:
    folder = write_architecture(tmp_path, "untied decoder", ROWS)
    tensors = load_file(folder / "model.safetensors")
    for name, part in (("lm_head.weight", "output"), ("model.embed_tokens.weight", "input")):
        del tensors[name]
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        with pytest.raises(DataError, match=f"lack the {part} embedding"):
            vocabulary_tensors(folder)


def test_who_generates_and_who_counts_positions_from_padding(kind: str, tmp_path: Path) -> None:
    folder = write_architecture(tmp_path, kind, ROWS)
    assert generates(folder) == ("encoder" not in kind or "encoder-decoder" in kind)
    assert counts_positions_from_padding(folder) == (kind == "masked encoder counting positions")
