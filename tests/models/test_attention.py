import inspect
import itertools
from types import SimpleNamespace

import pytest
import torch
from torch.nn.attention import varlen as torch_varlen
from transformers import Gemma3Config, LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM

from cpt.errors import StageFailed
from cpt.models import attention
from cpt.models.attention import DocumentLayout, bucketed_sdpa, cpu_blockwise, varlen
from cpt.models.attention.layout import arrange
from cpt.models.batch import IGNORED, pack
from cpt.models.packed_model import PackedLanguageModel

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


def row_of(lengths: list[int], dtype: torch.dtype = torch.float32, query_heads: int = 6, width: int = 8):
    """Random queries, keys and values of a packed row, as a model hands them over."""
    torch.manual_seed(1)
    return tuple(
        torch.randn(1, sum(lengths), heads, width, dtype=dtype).transpose(1, 2).requires_grad_()
        for heads in (query_heads, 2, 2)
    )


def brute_force(query, key, value, lengths: list[int], scaling: float, window: int | None) -> torch.Tensor:
    """Attention by the definition, in float64, over the whole row with a mask: [1, T, H, E]."""
    total, share = sum(lengths), query.shape[1] // key.shape[1]
    owner = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))
    distance = torch.arange(total)[:, None] - torch.arange(total)[None]
    allowed = (owner[:, None] == owner[None]) & (distance >= 0) & (distance < (window or total))
    query, key, value = query.double(), key.double(), value.double()
    scores = query @ key.repeat_interleave(share, 1).mT * scaling
    weights = scores.masked_fill(~allowed, float("-inf")).softmax(-1)
    return (weights @ value.repeat_interleave(share, 1)).transpose(1, 2)


def check_against_brute_force(attend, lengths: list[int], window: int | None, **tolerance: float) -> None:
    """Output and all gradients."""
    inputs = row_of(lengths)
    layout = DocumentLayout.of(lengths)
    actual, expected = attend(*inputs, layout, 0.3, window), brute_force(*inputs, lengths, 0.3, window)
    weights = torch.randn(expected.shape)
    torch.testing.assert_close(actual, expected.float(), **tolerance)
    for ours, theirs in zip(
        torch.autograd.grad((actual * weights).sum(), inputs),
        torch.autograd.grad((expected * weights).sum(), inputs),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs, **tolerance)


@pytest.mark.parametrize("heads", [1, 3])
def test_arrangement_restores_the_row_and_pads_little(heads: int) -> None:
    arrangement = arrange(DocumentLayout.of(LENGTHS), heads)
    row = torch.arange(sum(LENGTHS) * heads)
    flat = torch.cat([row[group.rows] for group in arrangement.groups])
    assert torch.equal(flat[arrangement.restore], row)
    for group in arrangement.groups:
        real = torch.ones(len(group.rows), dtype=torch.bool)
        real[group.padding] = False
        assert group.rows[real].unique().numel() == real.sum()
        lengths = real.view(group.documents, heads, group.length)[:, 0].sum(1)
        assert (group.length <= torch.maximum(lengths * 1.25, lengths + 16)).all()
    assert sum(len(group.rows) - len(group.padding) for group in arrangement.groups) == len(row)


@pytest.mark.parametrize("window", [None, 1, 7, 30, 200])
@pytest.mark.parametrize(("block", "kept_up_to"), [(128, 384), (16, 384), (16, 0), (10**6, 0)])
def test_products_equal_brute_force(monkeypatch, block: int, kept_up_to: int, window: int | None) -> None:
    monkeypatch.setattr(cpu_blockwise, "_BLOCK", block)
    monkeypatch.setattr(cpu_blockwise, "_KEPT_UP_TO", kept_up_to)
    check_against_brute_force(cpu_blockwise.attend, LENGTHS, window)


@pytest.mark.parametrize("window", [None, 300])
def test_products_equal_brute_force_on_a_document_that_fills_the_sequence(window: int | None) -> None:
    check_against_brute_force(cpu_blockwise.attend, [700], window, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("window", [None, 7])
def test_grouped_attention_equals_brute_force(window: int | None) -> None:
    check_against_brute_force(bucketed_sdpa.attend, LENGTHS, window)


@pytest.mark.parametrize("lengths", [LENGTHS, [600]])
def test_bfloat16_products_are_as_close_as_bfloat16_allows(lengths: list[int]) -> None:
    query, key, value = row_of(lengths, torch.bfloat16, width=16)
    expected = brute_force(query, key, value, lengths, 0.25, None)
    actual = cpu_blockwise.attend(query, key, value, DocumentLayout.of(lengths), 0.25, None)
    assert actual.dtype == torch.bfloat16
    assert (actual - expected).abs().mean() < 0.004 * expected.abs().mean() * 2
    weights = torch.randn(expected.shape)
    for ours, theirs in zip(
        torch.autograd.grad((actual * weights).sum(), (query, key, value)),
        torch.autograd.grad((expected * weights).sum(), (query, key, value)),
        strict=True,
    ):
        assert ours.dtype == torch.bfloat16
        assert (ours.float() - theirs.float()).abs().mean() < 0.01 * theirs.float().abs().mean()


def test_products_are_the_same_every_time_and_whether_weights_are_kept_or_not(monkeypatch) -> None:
    lengths = [300, 40, 290]
    layout = DocumentLayout.of(lengths)

    def gradients() -> tuple[torch.Tensor, ...]:
        inputs = row_of(lengths, torch.bfloat16)
        attended = cpu_blockwise.attend(*inputs, layout, 0.3, None)
        return attended, *torch.autograd.grad(attended.float().square().sum(), inputs)

    first, second = gradients(), gradients()
    monkeypatch.setattr(cpu_blockwise, "_KEPT_UP_TO", 0)
    recomputed = gradients()
    assert all(map(torch.equal, first, second))
    assert all(map(torch.equal, first, recomputed))


def test_what_a_long_document_keeps_for_the_backward_pass_grows_with_its_length() -> None:
    def kept(length: int) -> int:
        count = 0

        def pack(tensor: torch.Tensor) -> torch.Tensor:
            nonlocal count
            count += tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            cpu_blockwise.attend(*row_of([length]), DocumentLayout.of([length]), 0.3, None)
        return count

    assert kept(800) == 2 * kept(400)


def test_a_products_document_is_blind_to_the_others() -> None:
    lengths = [40, 300, 35]
    inputs = row_of(lengths)
    layout = DocumentLayout.of(lengths)
    attended = cpu_blockwise.attend(*inputs, layout, 0.3, None)
    changed = [x.detach().clone() for x in inputs]
    for x in changed:
        x[:, :, 40:340] = float("nan")
    after = cpu_blockwise.attend(*changed, layout, 0.3, None)
    assert torch.equal(attended[:, :40], after[:, :40])
    assert torch.equal(attended[:, 340:], after[:, 340:])
    grads = torch.autograd.grad(attended[:, :40].square().sum(), inputs)
    assert all((grad[:, :, 40:] == 0).all() for grad in grads)


def varlen_by_definition(
    query, key, value, cu_seq_q, cu_seq_k, max_q, max_k, *, scale, window_size, enable_gqa
) -> torch.Tensor:
    """What the documentation of torch's varlen_attn says, document by document."""
    assert cu_seq_q.dtype == torch.int32
    assert max_q == max_k == max(cu_seq_q.diff())
    assert torch.equal(cu_seq_q, cu_seq_k)
    assert enable_gqa
    back, ahead = window_size
    assert ahead == 0
    window = back + 1 if back >= 0 else None
    parts = [
        brute_force(
            *(x[start:stop].transpose(0, 1)[None] for x in (query, key, value)), [stop - start], scale, window
        )
        for start, stop in itertools.pairwise(cu_seq_q.tolist())
    ]
    return torch.cat(parts, 1)[0].float()


@pytest.mark.parametrize("window", [None, 7])
def test_varlen_kernel_is_called_as_it_is_documented(monkeypatch, window: int | None) -> None:
    documented = inspect.signature(torch_varlen.varlen_attn)

    def kernel(*args, **kwargs) -> torch.Tensor:
        documented.bind(*args, **kwargs)
        return varlen_by_definition(*args, **kwargs)

    monkeypatch.setattr(torch_varlen, "varlen_attn", kernel)
    check_against_brute_force(varlen.attend, LENGTHS, window)


class OnGpu:
    """What the choice of a kernel looks at, of queries on a GPU."""

    device = torch.device("cuda")

    def __init__(self, dtype: torch.dtype = torch.bfloat16, width: int = 64) -> None:
        self.dtype, self.shape = dtype, (1, 6, 10, width)


@pytest.mark.parametrize(
    ("query", "capability", "chosen"),
    [
        (OnGpu(), (9, 0), varlen.attend),
        (OnGpu(), (7, 5), bucketed_sdpa.attend),
        (OnGpu(torch.float32), (9, 0), bucketed_sdpa.attend),
        (OnGpu(width=512), (9, 0), bucketed_sdpa.attend),
        (OnGpu(width=100), (9, 0), bucketed_sdpa.attend),  # the kernel wants multiples of 8
        (OnGpu(width=104), (9, 0), varlen.attend),
        (torch.zeros(1, 6, 10, 64), (9, 0), cpu_blockwise.attend),
    ],
)
def test_fastest_way_is_chosen(monkeypatch, query, capability: tuple[int, int], chosen) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert attention._backend(query) is chosen
    monkeypatch.setattr(varlen, "_has_kernel", lambda: False)
    assert attention._backend(query) is not varlen.attend


GPU = torch.device("cuda", 0)


@pytest.mark.parametrize(
    ("dtype", "width", "capability", "reason"),
    [
        (torch.bfloat16, 100, (9, 0), "multiple of 8, and these have 100"),
        (torch.bfloat16, 512, (9, 0), "up to a width of 256"),
        (torch.float32, 64, (9, 0), "16-bit"),
        (torch.bfloat16, 64, (7, 5), "below 8.0"),
    ],
)
def test_why_attention_is_slow_is_said(monkeypatch, dtype, width: int, capability, reason: str) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    model = SimpleNamespace(config=LlamaConfig(num_attention_heads=4, hidden_size=4 * width))
    assert reason in attention.choose_kernel(model, GPU, dtype)
    assert attention.choose_kernel(model, torch.device("cpu"), dtype) == ""


def test_kernel_of_the_text_part_of_a_larger_model(monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    model = SimpleNamespace(config=Gemma3Config(text_config={"head_dim": 100}))
    assert "these have 100" in attention.choose_kernel(model, GPU, torch.bfloat16)


def test_values_of_another_width_than_the_queries_are_refused() -> None:
    query, value = torch.zeros(1, 2, 6, 8), torch.zeros(1, 2, 6, 4)
    layout = {attention.LAYOUT: DocumentLayout.of([6])}
    with pytest.raises(StageFailed, match="Linear attends with values of another width"):
        attention._attention_interface(torch.nn.Linear(1, 1), query, query, value, None, **layout)


@pytest.mark.parametrize(
    ("capability", "installed", "deterministic", "used"),
    [
        ((9, 0), True, False, ["FA3"]),
        ((8, 0), True, False, []),
        ((9, 0), False, False, []),
        ((9, 0), True, True, []),
    ],
)
def test_flash_attention_3_is_used_where_it_is_installed_and_may_be(
    monkeypatch, capability, installed: bool, deterministic: bool, used: list[str]
) -> None:
    activated: list[str] = []
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(torch.nn.attention, "activate_flash_attention_impl", activated.append)
    monkeypatch.setattr(varlen, "find_spec", lambda name: object() if installed else None)
    monkeypatch.setattr(torch, "are_deterministic_algorithms_enabled", lambda: deterministic)
    model = SimpleNamespace(config=LlamaConfig(num_attention_heads=4, hidden_size=256))
    said = attention.choose_kernel(model, GPU, torch.bfloat16)
    assert activated == used
    assert said == ("attention uses flash attention 3" if used else "")


def test_a_flash_attention_3_for_another_pytorch_is_left_alone(monkeypatch) -> None:
    def refuses(_: str) -> None:
        raise RuntimeError("does not expose FA3 kernels")

    monkeypatch.setattr(torch.nn.attention, "activate_flash_attention_impl", refuses)
    monkeypatch.setattr(varlen, "find_spec", lambda name: object())
    assert "cannot be used: does not expose" in varlen.activate_flash_attention_3((9, 0))


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
    before = model.per_token_loss(pack(row))
    row[1] = (row[1] + 1) % 60
    after = model.per_token_loss(pack(row))
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
    from cpt.models.packed_model import load_model

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
