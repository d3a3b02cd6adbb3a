"""Kinds of weight, told from the names under which architectures store them."""

from __future__ import annotations

import re

EMBEDDINGS, HEAD, OTHER = "embeddings", "head", "other"

_PATTERNS = (
    (EMBEDDINGS, r"embed_(tokens|positions|in)|(word|position|token_type|tok)_embeddings|wte|wpe|shared"),
    ("attention q", r"q_proj|q|query|wq|q_lin"),
    ("attention k", r"k_proj|k|key|wk|k_lin"),
    ("attention v", r"v_proj|v|value|wv|v_lin"),
    ("attention qkv", r"qkv_proj|query_key_value|c_attn|wqkv|qkv"),
    ("attention o", r"o_proj|o|out_proj|out_lin"),
    ("feed-forward gate", r"gate_proj|w1|wi_0"),
    ("feed-forward up", r"up_proj|w3|wi|wi_1|c_fc|fc1|fc_in|dense_h_to_4h|lin1"),
    ("feed-forward gate and up", r"gate_up_proj"),
    ("feed-forward down", r"down_proj|w2|fc2|fc_out|dense_4h_to_h|lin2"),
    ("router", r"router|gate"),
    ("norms", r".*norm.*|ln_\w+"),
    (HEAD, r"lm_head|embed_out"),
)  # fmt: skip
_KINDS = tuple((kind, re.compile(pattern, re.IGNORECASE)) for kind, pattern in _PATTERNS)
_PARAMETER = re.compile(r"\.(weight|bias)$")

_PROJECTION = re.compile(r"c_proj|dense|wo")
_PLACES = (
    ("attention o", re.compile(r"att", re.IGNORECASE)),
    ("feed-forward up", re.compile(r"\.intermediate\.")),
    ("feed-forward down", re.compile(r"mlp|\.output\.|relu|feed_forward", re.IGNORECASE)),
)
"""What a projection is whose own name says little, by the modules that it lies in."""

KINDS = (*(kind for kind, _ in _KINDS), OTHER)
"""Every kind, in the order in which a model applies them, but for norms."""


def kind_of(tensor: str) -> str:
    """The kind of a stored tensor; `OTHER` if its name says nothing."""
    path = _PARAMETER.sub("", tensor)
    module = path.rpartition(".")[2]
    if _PROJECTION.fullmatch(module):
        return next((kind for kind, place in _PLACES if place.search(path)), OTHER)
    return next((kind for kind, pattern in _KINDS if pattern.fullmatch(module)), OTHER)
