"""The hypernetwork against plain padded computation, copying, permutations and its scalers' statistics."""

from __future__ import annotations

import pytest
import torch
from made_hypernetworks import SHAPES, made_network, made_rows_of, random_forms
from pydantic import ValidationError
from torch import Tensor
from torch.nn import functional as F

from tokenizer_tools.embeddings import Role
from tokenizer_tools.hypernetwork.network import EncoderLayer, Hypernetwork
from tokenizer_tools.hypernetwork.settings import HypernetworkConfig

VARIANTS = ("residual", "zett")


def single(ids: Tensor) -> tuple[Tensor, Tensor]:
    """Tokens of one piece."""
    return ids[:, None], torch.ones(len(ids), 1, dtype=torch.bool)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("widths", SHAPES.values(), ids=SHAPES)
def test_shapes(widths: dict[Role, int], variant: str) -> None:
    network = made_network(widths, variant=variant)
    rows = network(*random_forms(9))
    assert {role: tuple(made.shape) for role, made in rows.items()} == {
        role: (9, width) for role, width in widths.items()
    }
    assert all(made.dtype == torch.float32 and made.isfinite().all() for made in rows.values())
    assert network(*(part[:0] for part in random_forms(9)))[next(iter(widths))].shape[0] == 0


@pytest.mark.parametrize("residual", ["first", "mean"])
@pytest.mark.parametrize("widths", SHAPES.values(), ids=SHAPES)
def test_residual_starts_as_a_copy(widths: dict[Role, int], residual: str) -> None:
    """Single pieces bit by bit, in every data type; longer tokens as the rule of the base says."""
    network = made_network(widths, changed=False, residual=residual)
    source = made_rows_of(widths)
    for made in (network, network.bfloat16().float()):  # rounded rows are other rows
        for role, rows in made(*single(torch.arange(50))).items():
            assert torch.equal(rows, made.source.get_buffer(role))
    network = made_network(widths, changed=False, residual=residual)
    ids, mask = random_forms(20)
    ids %= 50
    for role, rows in network(ids, mask).items():
        picked = source[role][ids]
        mean = (picked * mask[..., None]).sum(1) / mask.sum(1)[:, None]
        torch.testing.assert_close(rows, picked[:, 0] if residual == "first" else mean)


def test_the_residual_is_scaled_by_the_standard_deviation_of_each_dimension() -> None:
    """ê - e = alpha * std * H(x) / sqrt(H)."""
    rows = {}
    for scale in (1.0, 4.0):
        network = made_network(residual_scale=scale)
        forms = random_forms(5)
        rows[scale] = network(*forms)["tied"] - network._base("tied", *forms)
    torch.testing.assert_close(rows[4.0], 4 * rows[1.0])
    std = made_rows_of(SHAPES["tied"])["tied"].std(0, correction=0)
    torch.testing.assert_close(network.get_buffer("scale_tied"), 4 * std / 16**0.5)


@pytest.mark.parametrize("variant", VARIANTS)
def test_permuted_tokens_have_permuted_rows(variant: str) -> None:
    network = made_network(SHAPES["bias"], variant=variant)
    ids, mask = random_forms(30)
    order = torch.randperm(30)
    plain, permuted = network(ids, mask), network(ids[order], mask[order])
    for role in plain:
        tolerance = 1e-6 * plain[role].detach().abs().max().item()
        torch.testing.assert_close(permuted[role], plain[role][order], rtol=0, atol=tolerance)


@pytest.mark.parametrize("variant", VARIANTS)
def test_padding_and_neighbours_change_nothing(variant: str) -> None:
    """A token alone, without padding, has the row that it has beside longer ones."""
    network = made_network(variant=variant)
    ids, mask = random_forms(12)
    together = network(ids, mask)["tied"]
    for token in range(12):
        length = int(mask[token].sum())
        alone = network(ids[token : token + 1, :length], mask[token : token + 1, :length])["tied"]
        tolerance = 1e-6 * together.detach().abs().max().item()
        torch.testing.assert_close(alone[0], together[token], rtol=0, atol=tolerance)
    ids[~mask] = 7
    assert torch.equal(network(ids, mask)["tied"], together)


def padded(network: Hypernetwork, ids: Tensor, mask: Tensor) -> dict[Role, Tensor]:
    """The same network, computed with padding, masks and full attention, layer by layer, from its weights."""

    def projector(module: torch.nn.Module, states: Tensor) -> Tensor:
        inner = F.gelu(F.gelu(states @ module.up.weight.T + module.up.bias, approximate="tanh")
                       @ module.down.weight.T + module.down.bias, approximate="tanh")  # fmt: skip
        return F.layer_norm(inner + states, inner.shape[-1:], module.norm.weight, module.norm.bias, 1e-6)

    def layer(module: EncoderLayer, states: Tensor) -> Tensor:
        width = states.shape[-1]
        query, (key, value) = module.query(states), module.key_value(states).split(width, dim=-1)
        query, key, value = (
            part.unflatten(-1, (module.heads, -1)).transpose(1, 2) for part in (query, key, value)
        )
        scores = query @ key.transpose(2, 3) / (width / module.heads) ** 0.5
        scores = scores.masked_fill(~mask[:, None, None, :], -torch.inf)
        seen = module.output((scores.softmax(-1) @ value).transpose(1, 2).flatten(2))
        states = F.layer_norm(
            states + seen, (width,), module.attention_norm.weight, module.attention_norm.bias, 1e-5
        )
        inner = module.down(F.gelu(module.up(states)))
        return F.layer_norm(states + inner, (width,), module.norm.weight, module.norm.bias, 1e-5)

    units = network.source.units(ids.flatten()).unflatten(0, ids.shape)
    first = network.input[0](units * (0.02 if network.config.variant == "zett" else 1))
    states = projector(network.input[1], first) + network.positions[: ids.shape[1]]
    states = F.layer_norm(states, states.shape[-1:], network.input_norm.weight, network.input_norm.bias, 1e-5)
    for module in network.layers:
        states = layer(module, states)
    made = {}
    for role in network.source.roles:
        head = network.heads[role]
        made[role] = head(states[:, 0]) if role == "bias" else head[1](projector(head[0], states[:, 0]))
        made[role] = made[role] * network.get_buffer(f"scale_{role}") + network.get_buffer(f"shift_{role}")
        if network.config.variant == "residual":
            made[role] = made[role] + network._base(role, ids, mask)
    return made


@pytest.mark.parametrize("settings", [{}, {"layers": 1}, {"hidden": 24, "heads": 3, "feed_forward": 3}])
@pytest.mark.parametrize("variant", VARIANTS)
def test_packing_equals_the_padded_computation(variant: str, settings: dict[str, int]) -> None:
    """Rows and gradients of every weight."""
    network = made_network(SHAPES["bias"], variant=variant, **settings)
    forms = random_forms(40)
    gradients = []
    for made in (network(*forms), padded(network, *forms)):
        network.zero_grad()
        sum(rows.square().sum() for rows in made.values()).backward()
        gradients.append({name: weight.grad for name, weight in network.named_parameters()})
    for role, rows in padded(network, *forms).items():
        torch.testing.assert_close(network(*forms)[role], rows, rtol=1e-4, atol=1e-5)
    for name, gradient in gradients[1].items():
        torch.testing.assert_close(gradients[0][name], gradient, rtol=1e-3, atol=1e-3 * gradient.abs().max())


def test_the_input_of_zett_has_mean_0_and_a_standard_deviation_of_0_02() -> None:
    network = made_network(SHAPES["untied"], changed=False, variant="zett")
    seen = []
    network.input.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    network(*single(torch.arange(50)))
    assert seen[0].shape == (50, 32)
    torch.testing.assert_close(seen[0].mean(0), torch.zeros(32), rtol=0, atol=1e-7)
    torch.testing.assert_close(seen[0].std(0, correction=0), torch.full((32,), 0.02), rtol=1e-5, atol=0)


@pytest.mark.parametrize("widths", SHAPES.values(), ids=SHAPES)
def test_the_output_of_zett_has_the_statistics_of_the_anchors(widths: dict[Role, int]) -> None:
    """All rows are anchors where there are fewer than 2,048."""
    made = made_network(widths, changed=False, variant="zett")(*single(torch.arange(50)))
    for role, rows in made_rows_of(widths).items():
        torch.testing.assert_close(made[role].mean(0), rows.mean(0), rtol=1e-3, atol=1e-3)
        torch.testing.assert_close(made[role].std(0), rows.std(0), rtol=1e-3, atol=1e-3)


def test_the_scalers_do_not_train() -> None:
    network = made_network(SHAPES["bias"], variant="zett")
    scalers = {
        name for name, _ in network.named_buffers() if "scale" in name or "shift" in name or "std" in name
    }
    assert scalers >= {"scale_input", "shift_output", "scale_bias", "source.std_input"}
    assert not scalers & {name for name, _ in network.named_parameters()}


@pytest.mark.parametrize("variant", VARIANTS)
def test_bytes_have_rows_of_their_own_that_learn(variant: str) -> None:
    network = made_network(SHAPES["bias"], variant=variant)
    rows = network(*single(torch.tensor([50, 51, 305])))
    assert len({tuple(row) for row in rows["input"].tolist()}) == 3
    sum(made.sum() for made in rows.values()).backward()
    assert network.source.bytes.grad.any(1).nonzero().flatten().tolist() == [0, 1, 255]
    if variant == "residual":
        start = made_network(SHAPES["bias"], changed=False)
        source, made = made_rows_of(SHAPES["bias"]), start(*single(torch.tensor([53])))
        units = start.source.bytes[3]
        for role, part in (("input", units[:16]), ("output", units[16:])):
            expected = source[role].mean(0) + source[role].std(0, correction=0) * part
            torch.testing.assert_close(made[role][0], expected)
        torch.testing.assert_close(made["bias"][0], source["bias"].mean(0))


def test_source_rows_are_neither_trained_nor_saved() -> None:
    network = made_network(SHAPES["bias"])
    assert not any(len(tensor) == 50 for tensor in network.state_dict().values())
    assert not any(len(parameter) == 50 for parameter in network.parameters())


def test_source_rows_keep_their_data_type_and_may_be_constant() -> None:
    rows = {"tied": torch.ones(50, 16, dtype=torch.bfloat16)}
    for variant in VARIANTS:
        network = Hypernetwork(HypernetworkConfig(variant=variant, heads=2), rows)
        assert network.source.get_buffer("tied").dtype == torch.bfloat16
        made = network(*random_forms(5))["tied"]
        assert made.dtype == torch.float32
        assert made.isfinite().all()


def test_rows_are_float32_under_autocast() -> None:
    network, forms = made_network(SHAPES["bias"]), random_forms(20)
    with torch.autocast("cpu", torch.bfloat16):
        made = network(*forms)
    for role, rows in network(*forms).items():
        assert made[role].dtype == torch.float32
        torch.testing.assert_close(made[role], rows, rtol=0.1, atol=0.1)


def test_every_size_changes_the_network() -> None:
    def weights(**settings: object) -> int:
        return sum(parameter.numel() for parameter in made_network(**settings).parameters())

    assert weights(layers=3) > weights(layers=2)
    assert weights(hidden=32) > weights(hidden=16) == weights()
    assert weights(feed_forward=3) > weights(feed_forward=2) == weights()
    assert weights(pieces=8) == weights() + 16
    forms = random_forms(5)
    rows = [made_network(heads=heads)(*forms)["tied"] for heads in (1, 2)]
    assert not torch.allclose(*rows)
    assert HypernetworkConfig().sizes(576) == (576, 9)
    assert HypernetworkConfig(hidden=128).sizes(576) == (128, 2)
    assert HypernetworkConfig().sizes(32) == (32, 1)


def test_what_does_not_fit() -> None:
    with pytest.raises(ValueError, match="3 heads do not divide the encoder's width 16"):
        made_network(heads=3)
    with pytest.raises(ValidationError, match="5 heads do not divide the encoder's width 64"):
        HypernetworkConfig(hidden=64, heads=5)
    for setting in ({"residual": "mean"}, {"residual_scale": 2.0}):
        with pytest.raises(ValidationError, match="goes with variant residual, not with zett"):
            HypernetworkConfig.model_validate({"variant": "zett", **setting})
    with pytest.raises(ValueError, match="rows of an embedding"):
        Hypernetwork(HypernetworkConfig(), {"bias": torch.ones(5, 1)})
    ids, mask = random_forms(3)
    mask[1] = False
    with pytest.raises(ValueError, match="1 tokens have no piece"):
        made_network()(ids, mask)
