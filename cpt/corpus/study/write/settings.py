"""Define the settings of study texts that a model writes."""

from __future__ import annotations

import re
from ipaddress import ip_address
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

Kind = Literal["rephrase", "questions", "strategies", "refine"]
KINDS: tuple[Kind, ...] = Kind.__args__  # type: ignore[attr-defined]
Engine = Literal["transformers", "vllm"]

BASE = "base"
"""Name of the stage's own model among the models that write."""

OPENAI, OPENAI_KEY = "api.openai.com", "OPENAI_API_KEY"
"""Host that gets a key by default, and the variable that it is in. To no other host a key is sent unasked."""

OF_TRANSPORT = ("price_per_million", "timeout", "key_variable", "at_once")
"""Settings that change no text of the model, but only what is shown and the way that requests take."""

_ADDRESS = re.compile(r"https?://", re.IGNORECASE)
_FIXED = ("model", "messages", "prompt", "stream", "n")
"""Fields of a request's body that the answers are read by."""


class WriteSettings(BaseModel):
    """Texts about the domain's training documents that a model writes.

    Questions join the mined ones, with the same division into trained and probed facts. All other texts
    become documents of the part `reading`. The documents themselves stay as they are.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str = Field(
        default=BASE,
        min_length=1,
        description="Model that writes: base, the stage's own; a reference of a model; or the address of a "
        "server with OpenAI's chat completions, http(s)://host/v1.",
    )
    name: str | None = Field(
        default=None, min_length=1, description="Name of the model at the address; only with one."
    )
    key_variable: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z_][A-Za-z0-9_]*$",
        validate_default=True,
        description="Environment variable that holds the key for the address. By default no key is sent, "
        "except to api.openai.com: OPENAI_API_KEY. The key itself is written nowhere.",
    )
    engine: Engine = Field(
        default="transformers",
        description="Library that runs a local model. vllm is faster on GPUs, and writes other text.",
    )
    kinds: tuple[Kind, ...] = Field(
        default=("questions", "rephrase", "strategies"),
        min_length=1,
        description="What is written of each passage. rephrase: the same in another form; questions: with "
        "answers; strategies: ways to learn it, each then applied; refine: lines left out or corrected.",
    )
    tokens: int = Field(
        gt=0,
        description="Bound of the tokens to write, usable or not, as the model counts them. As much study "
        "text as documents is a good start.",
    )
    documents: int | None = Field(
        default=None, gt=0, description="Most documents to write about, at random; by default all."
    )
    passage: int = Field(
        default=4_000,
        ge=500,
        description="Most characters of a document in one request; longer ones are divided at ends of lines "
        "or sentences.",
    )
    questions: int = Field(default=5, ge=1, le=50, description="Most questions on a passage.")
    strategies: int = Field(default=3, ge=1, le=20, description="Most strategies for a passage.")
    check: Literal["extract", "round-trip", "none"] = Field(
        default="extract",
        description="Questions that are kept. extract: those whose answer stands in the passage; round-trip: "
        "also those that the model, asked again with the passage, answers alike; none: all.",
    )
    temperature: float = Field(
        default=0.7, ge=0, le=2, description="Sampling temperature; 0 takes the likeliest token."
    )
    at_once: int = Field(
        default=16,
        ge=1,
        le=1024,
        description="Number of requests at once; of a local model, texts in a batch.",
    )
    timeout: float = Field(default=300.0, gt=0, description="Seconds to wait for an answer of an address.")
    fields: dict[str, Any] = Field(
        default={},
        description="Further fields of each request to an address, such as {top_p: 0.9}; null leaves one of "
        "ours out.",
    )
    least_yield: float = Field(
        default=0.05,
        ge=0,
        le=1,
        description="Least share of the results of each kind that can be used. With less, the stage stops "
        "after the first passages, before more is paid.",
    )
    price_per_million: tuple[float, float] | None = Field(
        default=None,
        description="Price of a million tokens, [read, written], in any currency; `cpt plan` then shows the "
        "costs.",
    )

    @field_validator("kinds")
    @classmethod
    def _kinds_once(cls, kinds: tuple[Kind, ...]) -> tuple[Kind, ...]:
        twice = sorted({name for name in kinds if kinds.count(name) > 1})
        if twice:
            raise ValueError(f"named twice: {', '.join(twice)}")
        return kinds

    @field_validator("model")
    @classmethod
    def _plain_address(cls, model: str) -> str:
        if not _ADDRESS.match(model):
            return model
        parts = urlsplit(model)
        if parts.username or parts.password or parts.query or parts.fragment:
            raise ValueError(
                "the address may hold no name, password or query: recipes are copied. The key comes from the "
                "variable that key_variable names"
            )
        if not parts.hostname or parts.port == 0:  # the property raises ValueError for one that is no port
            raise ValueError("the address has no host; for example http://localhost:8000/v1")
        return model.rstrip("/").removesuffix("/chat/completions")

    @field_validator("key_variable")
    @classmethod
    def _key_is_sent_encrypted(cls, variable: str | None, known: ValidationInfo) -> str | None:
        model = known.data.get("model", BASE)  # a wrong one has a problem of its own
        if _ADDRESS.match(model) and _variable(variable, model) and not _is_safe(model):
            raise ValueError(
                "a key would go unencrypted over http:// to another machine: take https://, or a tunnel that "
                "begins at localhost"
            )
        return variable

    @field_validator("fields")
    @classmethod
    def _free_fields(cls, fields: dict[str, Any]) -> dict[str, Any]:
        taken = sorted(set(fields) & set(_FIXED))
        if taken:
            raise ValueError(f"{', '.join(taken)} cannot be changed")
        return fields

    @model_validator(mode="after")
    def _fitting(self) -> WriteSettings:
        if self.is_address:
            if self.name is None:
                raise ValueError("give the name of the model at the address: name")
            if "engine" in self.model_fields_set:
                raise ValueError("engine changes nothing at an address: leave it out")
            return self
        given = sorted({"name", "key_variable", "timeout", "fields"} & self.model_fields_set)
        if given:
            raise ValueError(f"{', '.join(given)}: only an address has this")
        return self

    @property
    def is_address(self) -> bool:
        """True for a server's model."""
        return _ADDRESS.match(self.model) is not None

    @property
    def variable(self) -> str | None:
        """Environment variable that holds the key for the address; None if no key is sent."""
        return _variable(self.key_variable, self.model)

    @property
    def is_local(self) -> bool:
        """True for an address on this machine."""
        return _is_local(_host(self.model))

    @property
    def reference(self) -> str | None:
        """Reference of the model that writes; None for the base and for an address."""
        return None if self.is_address or self.model == BASE else self.model

    @property
    def label(self) -> str:
        """Name of the model that writes, for people."""
        return self.name or ("the base" if self.model == BASE else self.model)


def _variable(named: str | None, model: str) -> str | None:
    return named or (OPENAI_KEY if _host(model) == OPENAI else None)


def _is_safe(address: str) -> bool:
    """Return True if nobody on the way to an address can read what is sent."""
    return urlsplit(address).scheme.lower() == "https" or _is_local(_host(address))


def _is_local(host: str) -> bool:
    """Return True for this machine: localhost, 127.0.0.0/8 and ::1."""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:  # a name
        return False


def _host(model: str) -> str:
    """Return the host of an address; empty for other models."""
    return (urlsplit(model).hostname or "") if _ADDRESS.match(model) else ""
