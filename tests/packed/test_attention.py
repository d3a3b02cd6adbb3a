import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM

from cpt.packed import attention
from cpt.packed.attention import DocumentLayout, attend_within_documents
from cpt.packed.batch import IGNORED, pack
from cpt.packed.model import PackedLanguageModel

LENGTHS = [5, 40, 1, 17, 3, 90, 41]


def documents(lengths: list[int], seed: int = 0) -> list:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(3, 60, (length,), generator=generator).numpy() for length in lengths]


def tiny(kind: str = "llama", implementation: str = attention.NAME):
    attention.register()
    torch.manual_seed(0)
    sizes = {
        "vocab_size": 64,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 128,
        "initializer_range": 0.2,
        "attn_implementation": implementation,
    }
    if kind == "mistral":
        return MistralForCausalLM(MistralConfig(**sizes, sliding_window=8)).eval()
    return LlamaForCausalLM(LlamaConfig(**sizes)).eval()


def test_layout_restores_the_row_and_pads_little() -> None:
    layout = DocumentLayout.of(LENGTHS)
    row = torch.arange(sum(LENGTHS))
    flat = torch.cat([row[group].flatten() for group in layout.groups])
    assert torch.equal(flat[layout.restore], row)
    for group in layout.groups:
        real = (group[:, 1:] != group[:, :-1]).sum(1) + 1
        assert (group.shape[1] <= torch.maximum(real * 1.25, real + 16)).all()


@pytest.mark.parametrize("products_up_to", [0, 10**6])
@pytest.mark.parametrize("window", [None, 7])
def test_attention_equals_the_block_diagonal_mask(
    monkeypatch, products_up_to: int, window: int | None
) -> None:
    monkeypatch.setattr(attention, "_PRODUCTS_UP_TO", products_up_to)
    torch.manual_seed(1)
    total = sum(LENGTHS)
    query = torch.randn(1, 6, total, 8, requires_grad=True)
    key, value = (torch.randn(1, 2, total, 8, requires_grad=True) for _ in range(2))
    owner = torch.repeat_interleave(torch.arange(len(LENGTHS)), torch.tensor(LENGTHS))
    steps = torch.arange(total)
    distance = steps[:, None] - steps[None]
    allowed = (owner[:, None] == owner[None]) & (distance >= 0) & (distance < (window or total))
    expected = torch.nn.functional.scaled_dot_product_attention(
        query, key.repeat_interleave(3, 1), value.repeat_interleave(3, 1), attn_mask=allowed, scale=0.3
    ).transpose(1, 2)
    actual = attend_within_documents(query, key, value, DocumentLayout.of(LENGTHS), 0.3, window)
    torch.testing.assert_close(actual, expected)
    inputs = (query, key, value)
    weights = torch.randn_like(expected)
    for ours, theirs in zip(
        torch.autograd.grad((actual * weights).sum(), inputs),
        torch.autograd.grad((expected * weights).sum(), inputs),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("kind", ["llama", "mistral"])
def test_packed_logits_equal_per_document_logits(kind: str) -> None:
    packed, alone = tiny(kind), tiny(kind, "eager")
    row = documents(LENGTHS)
    batch = pack(row)
    with torch.no_grad():
        together = packed(
            input_ids=batch.input_ids, position_ids=batch.position_ids, use_cache=False,
            **{attention.LAYOUT: batch.layout},
        ).logits[0]  # fmt: skip
        apart = torch.cat(
            [alone(torch.tensor(document)[None], use_cache=False).logits[0] for document in row]
        )
    torch.testing.assert_close(together, apart, atol=1e-5, rtol=1e-5)


def test_changing_one_document_leaves_the_others_unchanged() -> None:
    model = PackedLanguageModel(tiny())
    row = documents(LENGTHS)
    before = model.token_nats(pack(row))
    row[1] = (row[1] + 1) % 60
    after = model.token_nats(pack(row))
    start, end = LENGTHS[0], LENGTHS[0] + LENGTHS[1]
    assert torch.equal(before[:start], after[:start])
    assert torch.equal(before[end:], after[end:])
    assert not torch.equal(before[start:end], after[start:end])


def test_no_loss_across_boundaries_and_positions_restart() -> None:
    row = documents([3, 2])
    batch = pack(row)
    first, second = (document.tolist() for document in row)
    assert batch.labels.tolist() == [first[1], first[2], IGNORED, second[1], IGNORED]
    assert batch.position_ids[0].tolist() == [0, 1, 2, 0, 1]
    assert (batch.tokens, batch.targets) == (5, 3)


def test_unsupported_attention_is_refused() -> None:
    from cpt.errors import StageFailed

    module = torch.nn.Module()
    x = torch.zeros(1, 1, 2, 4)
    with pytest.raises(StageFailed, match="softcap"):
        attention._attention_interface(module, x, x, x, None, softcap=30.0)
    with pytest.raises(StageFailed, match="dropout"):
        attention._attention_interface(module, x, x, x, None, dropout=0.1)


def test_a_model_that_does_more_than_a_linear_head_is_refused(tmp_path) -> None:
    from transformers import GraniteConfig, GraniteForCausalLM

    from cpt.errors import StageFailed
    from cpt.packed.model import load_model

    config = GraniteConfig(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=1,
        num_attention_heads=4,
        num_key_value_heads=2,
        initializer_range=0.5,
        logits_scaling=4.0,
        pad_token_id=0,
        bos_token_id=0,
        eos_token_id=1,
    )
    torch.manual_seed(0)
    GraniteForCausalLM(config).save_pretrained(tmp_path)
    with pytest.raises(StageFailed, match="GraniteForCausalLM cannot read packed documents"):
        load_model(tmp_path)
