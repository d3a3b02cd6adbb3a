"""A new token's donor row as a combination of few shared donor rows, applied to their base rows.

Source: orthogonal matching pursuit in mergekit-tokensurgeon ("Training-free tokenizer transplantation via
orthogonal matching pursuit", arXiv 2506.06607), with its choice of atoms and its default k. By default what
is combined are deviations from the mean. Coefficients of whole rows do not sum to 1, so the mean, which keeps
the logits of rare tokens low, is lost in the combination: with a donor of width 128 trained on little text,
new tokens then outbid the right ones, and the more so the larger k.
"""

from __future__ import annotations

from tokenizer_tools.embeddings import Method, Rule
from tokenizer_tools.embeddings._matching_pursuit import orthogonal_matching_pursuit
from tokenizer_tools.embeddings._tokensurgeon import (
    Landmarks,
    PursuitParameters,
    combination_rule,
    donor_rule,
)
from tokenizer_tools.transfer import Transfer


def prepare(transfer: Transfer, parameters: PursuitParameters) -> Rule:
    """Combinations are found once, in donor space."""

    def make(landmarks: Landmarks) -> Rule:
        found = landmarks.around_mean() if parameters.around_mean else landmarks
        combinations = orthogonal_matching_pursuit(found.targets_KD, found.shared_OD, parameters.k)
        return combination_rule(transfer, found, *combinations, around_mean=parameters.around_mean)

    return donor_rule(transfer, parameters, make)


METHOD = Method(
    summary="few shared tokens that make the token in a donor model, by orthogonal matching pursuit",
    reference="https://arxiv.org/abs/2506.06607",
    prepare=prepare,
    parameters=PursuitParameters,
    needs_texts=True,
)
