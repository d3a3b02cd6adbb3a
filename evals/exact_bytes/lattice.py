"""The canonical token sequences that cover a text, kept up to date byte by byte.

A node is a sequence whose tokens stand for the whole text up to some place. A sequence that covers a longer
text is a node and one more token that begins with the rest. In the order of bytes, these tokens lie side by
side. With the next byte every such stretch of tokens gets shorter, and a token that ends there makes a new
node. There is mostly one node for each place. A node is given up when its stretch is empty.

Shapes: V tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from tokenizer_tools.canonical.tokens import CanonicalTokens, TokenState


class Node:
    """A canonical sequence of tokens.

    Attributes:
        parent: Sequence without the last token; None for the empty one.
        token: Its last token, by the order of bytes; -1 for the empty sequence.
        place: Number of bytes that it stands for, those before the text included.
        state: End of the sequence.
    """

    def __init__(
        self, tokens: CanonicalTokens, parent: Node | None, token: int, place: int, state: TokenState
    ) -> None:
        self._tokens = tokens
        self.parent, self.token, self.place, self.state = parent, token, place, state

    @cached_property
    def allowed(self) -> np.ndarray:
        """Return the tokens that may follow: [V] bool."""
        return self._tokens.allowed(self.state)

    def forget(self) -> None:
        """Free the memory of `allowed`, which is found again when it is asked for."""
        self.__dict__.pop("allowed", None)

    @property
    def may_end(self) -> bool:
        """Return True if the text may end here."""
        is_lead = self._tokens.bpe.lead == "always" and self.place <= len(self._tokens.lead)
        return not is_lead and self._tokens.may_end(self.state)

    def path(self) -> list[Node]:
        """Return the nodes from the first token to this one."""
        found: list[Node] = []
        node = self
        while node.parent is not None:
            found.append(node)
            node = node.parent
        return found[::-1]

    def ids(self) -> list[int]:
        """Return the ids of its tokens."""
        return [int(self._tokens.ids[node.token]) for node in self.path()]


@dataclass(frozen=True)
class Stretch:
    """Tokens by which a node covers the text.

    Attributes:
        node: The node.
        first, last: The tokens [first, last) that begin with the text after the node.
        longer: First of them that is longer than the text after the node.
    """

    node: Node
    first: int
    last: int
    longer: int


class Lattice:
    """All canonical sequences that cover a text.

    Attributes:
        place: Number of bytes of the text, those before it included.
        stretches: Nodes with the tokens by which they cover the text. Nodes that end with the text come
            last; any token may follow them.
    """

    def __init__(self, tokens: CanonicalTokens, stretches: Sequence[Stretch] | None = None) -> None:
        """Start with no text.

        Args:
            tokens: Tokenizer.
            stretches: The stretches of another lattice without text, whose nodes are shared.
        """
        self.tokens = tokens
        self.place = 0
        root = Node(tokens, None, -1, 0, tokens.start)
        self.stretches = [Stretch(root, 0, len(tokens.ids), 0)] if stretches is None else list(stretches)

    @property
    def ended(self) -> list[Node]:
        """Return the nodes that end with the text."""
        return [each.node for each in self.stretches if each.node.place == self.place]

    def advance(self, byte: int) -> list[Stretch]:
        """Append a byte to the text.

        Returns:
            The tokens by which nodes covered the text so far and cover the new one, those that end with it
            included; the new nodes are not among them.
        """
        covering: list[Stretch] = []
        for each in self.stretches:
            depth = self.place - each.node.place
            column = self.tokens.column(depth)[each.longer : each.last]
            first, last = (
                each.longer + int(np.searchsorted(column, byte, side)) for side in ("left", "right")
            )
            if first < last and each.node.allowed[first:last].any():
                longer = first + int(self.tokens.lengths[first] == depth + 1)
                covering.append(Stretch(each.node, first, last, longer))
        self.place += 1
        kept = [each for each in covering if each.node.allowed[each.longer : each.last].any()]
        former, self.stretches = self.stretches, [*kept, *self._new(covering)]
        for gone in {each.node for each in former} - {each.node for each in kept}:
            gone.forget()
        return covering

    def _new(self, covering: list[Stretch]) -> Iterator[Stretch]:
        for each in covering:
            if each.longer > each.first and each.node.allowed[each.first]:
                state = self.tokens.after(each.node.state, each.first)
                yield Stretch(
                    Node(self.tokens, each.node, each.first, self.place, state), 0, len(self.tokens.ids), 0
                )
