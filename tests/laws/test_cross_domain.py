"""The cross-domain law: planted weights, probes of domains, and a domain that no run of the fit had."""

from __future__ import annotations

import numpy as np
import pytest
from planted import SIZE

from cpt.errors import RecipeError, UsageError
from cpt.laws import Law, Row, advise, fit, predict, probe_of, read_law, write_law
from cpt.laws.rows import starts_of

TERMS = {"E": 0.3, "B": 6.0, "eta": 0.5, "beta": 0.3, "C": 0.3, "epsilon": 0.2, "gamma": 0.8}
F, MU, W1, W2 = 0.25, 0.6, 0.35, 0.65
FIRST = {"medical": 1.6, "law": 1.3, "finance": 1.9, "code": 1.4, "chemistry": 2.6, "music": 2.3}
TOKENS = (500_000, 1_000_000, 3_000_000, 10_000_000, 20_000_000)
SHARES = (0.3, 0.5, 0.8, 1.0)
PROBED = 500_000


def base_loss(tokens: float, share: float) -> float:
    return float(
        TERMS["E"]
        + TERMS["B"] * share ** TERMS["eta"] / tokens ** TERMS["beta"]
        + TERMS["C"] / (share + TERMS["epsilon"]) ** TERMS["gamma"]
    )


def rows_of(domain: str, start: float, shares: tuple[float, ...] = SHARES) -> list[Row]:
    """Rows that follow the law: the domain's own term agrees with the decline that the rows themselves show.

    K = W1/k1 + W2·k2 and k2 = (k1 - loss at the probe)/tokens depend on each other: K is found by iteration.
    """
    k = 1.0
    for _ in range(200):
        decline = (start - base_loss(PROBED, 1.0) - F / k**MU) * 1e6 / PROBED
        k = W1 / start + W2 * decline
    rows = []
    for share in shares:
        run = f"{domain}-{share}"
        common = {"run": run, "domain": domain, "parameters": SIZE, "share": share}
        rows.append(Row(tokens=0, domain_loss=start, **common))
        for tokens in TOKENS:
            rows.append(Row(tokens=tokens, domain_loss=base_loss(tokens, share) + F / k**MU, **common))
    return rows


@pytest.fixture(scope="module")
def law() -> Law:
    rows = [row for name, start in FIRST.items() if name != "music" for row in rows_of(name, start)]
    return fit(rows, draws=0)


def test_planted_weights_are_found(law: Law) -> None:
    found = law.texts["domain"].coefficients
    assert law.probe is not None
    assert (law.probe.tokens, law.probe.share) == (PROBED, 1.0)
    assert law.domains["law"].first_loss == 1.3
    assert found["w1"] + found["w2"] == pytest.approx(1)
    assert found["w1"] == pytest.approx(W1, abs=0.03)
    assert found["mu"] == pytest.approx(MU, rel=0.1)
    assert law.texts["domain"].fitted.mean_error < 1e-4


def test_a_domain_that_was_not_fitted_is_predicted_from_its_probe(law: Law) -> None:
    rows = rows_of("music", FIRST["music"])
    short = [row for row in rows if row.share == 1.0 and row.tokens <= 1_000_000]
    probe = probe_of(short, starts_of(short), law.probe)  # type: ignore[arg-type]
    for row in (row for row in rows if row.tokens):
        found = predict(law, tokens=row.tokens, replay=1 - row.share, probe=probe)
        assert found.losses["domain"].value == pytest.approx(row.domain_loss, abs=2e-3)
        assert found.rises["domain"].value == pytest.approx(row.domain_loss - FIRST["music"], abs=2e-3)
    assert advise(law, tokens=1e7, probe=probe).replay.value == 0


def test_the_domain_is_named_in_questions(law: Law) -> None:
    one, other = (
        predict(law, tokens=1e7, replay=0.2, domain=name).losses["domain"] for name in ("law", "code")
    )
    assert one.value != other.value
    with pytest.raises(UsageError, match="several domains: say which"):
        predict(law, tokens=1e7, replay=0.2)
    with pytest.raises(UsageError, match="no domain `lawn`"):
        predict(law, tokens=1e7, replay=0.2, domain="lawn")


def test_a_law_of_domains_is_kept_in_a_file(law: Law, tmp_path) -> None:
    write_law(law, tmp_path / "law.json")
    assert read_law(tmp_path / "law.json") == law


def test_few_domains_are_warned_of() -> None:
    two = fit([*rows_of("law", 1.3), *rows_of("medical", 1.6)], draws=0)
    assert "few_domains" in [warning.kind for warning in two.warnings]


def test_domains_that_cannot_be_compared_are_refused() -> None:
    medical, law_rows = rows_of("medical", 1.6, (0.3, 0.5)), rows_of("law", 1.3, (0.8, 1.0))
    with pytest.raises(RecipeError, match="no runs of the same model with the same share"):
        fit([*medical, *law_rows], draws=0)
    without = [row for row in rows_of("law", 1.3) if row.tokens]
    with pytest.raises(RecipeError, match="law: its loss before training is not known"):
        fit([*rows_of("medical", 1.6), *without], draws=0)
    flat = [row.model_copy(update={"domain_loss": 1.3}) for row in rows_of("law", 1.3)]
    with pytest.raises(RecipeError, match="law: its loss does not fall in the first 500,000 tokens"):
        fit([*rows_of("medical", 1.6), *flat], draws=0)


def test_a_probe_is_read_between_two_readings(law: Law) -> None:
    rows = [row for row in rows_of("music", 2.3, (1.0,)) if row.tokens != PROBED]
    probe = probe_of(rows, starts_of(rows), law.probe)  # type: ignore[arg-type]
    at = np.interp(PROBED, [0, 1_000_000], [2.3, rows[1].domain_loss])
    assert probe.decline == pytest.approx((2.3 - at) * 1e6 / PROBED)
    with pytest.raises(RecipeError, match="no reading at 500,000 tokens or later"):
        probe_of(rows[:1], starts_of(rows), law.probe)  # type: ignore[arg-type]
