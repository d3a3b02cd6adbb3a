from __future__ import annotations

import numpy as np
import pytest
import torch
from test_attention import tiny

from cpt.models import sampling
from cpt.models.sampling import draw


@pytest.mark.parametrize("kind", ["llama", "mistral"])
def test_decoding_one_token_at_a_time_equals_the_whole_forward(kind: str) -> None:
    sampling.register_one_token_attention()
    ids = torch.randint(3, 60, (3, 20), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        whole = tiny(kind, "eager")(ids).logits
        model, cache, steps = tiny(kind, sampling.ONE_TOKEN), None, []
        for token in ids.T:
            output = model(token[:, None], past_key_values=cache, use_cache=True)
            cache = output.past_key_values
            steps.append(output.logits)
    torch.testing.assert_close(torch.cat(steps, 1), whole, atol=1e-5, rtol=1e-4)


def test_more_than_one_token_is_refused() -> None:
    x = torch.zeros(1, 1, 2, 4)
    with pytest.raises(ValueError, match="one token at a time"):
        sampling._attention_interface(torch.nn.Module(), x, x, x, None)


def test_draws_follow_the_distribution() -> None:
    logits = torch.log(torch.tensor([[0.5, 0.25, 0.0, 0.25]])).repeat(20_000, 1)
    drawn = draw(torch.Generator().manual_seed(0), 1.0, None, logits).argmax(-1).numpy()
    shares = np.bincount(drawn, minlength=4) / len(drawn)
    assert shares == pytest.approx([0.5, 0.25, 0.0, 0.25], abs=0.015)
    assert shares[2] == 0
