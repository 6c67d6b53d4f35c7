"""Trees of discrete states: messages upward, posteriors and draws downward, and the most probable states.

With evidence e_v(h) at every node v, edges W_c (row: state of the parent, column: state of c) and roots r_e(h), one row a head,

    m_v(h) = e_v(h) prod over children c of s_c(h),    s_c = W_c m_c,    p(evidence | head e) = sum_h r_e(h) m_root(h)

Messages are kept as numbers whose greatest is 1, with one logarithm a row for what was taken out: a state more than 700 nats below
the best one of its node counts as 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Callable, Optional

import numpy as np

from .logarithm import draw, log

Evidence = Callable[[int], Optional[np.ndarray]]


@dataclass
class Messages:
    """What an upward pass of N rows leaves: m and s by node [H, N], None where a node and all below it were not observed."""

    own: list
    sent: list
    log_scale: np.ndarray


@dataclass(frozen=True)
class Tree:
    """parents int [V] (-1 at the root), roots [E, H], edges [V, H, H].

    >>> tree = Tree(np.array([-1, 0]), np.array([[0.5, 0.5]]), np.array([np.zeros((2, 2)), [[0.9, 0.1], [0.2, 0.8]]]))
    >>> seen = [np.array([[1.0], [0.0]]), np.array([[0.0], [1.0]])]
    >>> np.exp(tree.log_heads(tree.upward(seen.__getitem__, 1))).round(3)
    array([[0.05]])
    """

    parents: np.ndarray
    roots: np.ndarray
    edges: np.ndarray

    @cached_property
    def order(self) -> list[int]:
        """All nodes, parents before children; the root is the first."""
        children: dict[int, list[int]] = {}
        for node, parent in enumerate(self.parents):
            children.setdefault(int(parent), []).append(node)
        order = list(children[-1])
        for node in order:
            order.extend(children.get(node, []))
        return order

    @property
    def root(self) -> int:
        return self.order[0]

    def upward(self, evidence: Evidence, rows: int, keep: bool = True) -> Messages:
        """Messages of `rows` rows; `evidence(v)` is e_v [H, rows], or None for ones. Without `keep`, those of the root only."""
        nodes = len(self.parents)
        messages = Messages([None] * nodes, [None] * nodes, np.zeros(rows))
        for node in reversed(self.order):
            own = _scaled(messages, evidence(node), messages.own[node])
            messages.own[node] = own
            if own is None or node == self.root:
                continue
            sent, parent = self.edges[node] @ own, self.parents[node]
            messages.own[parent] = _scaled(messages, sent, messages.own[parent])
            if keep:
                messages.sent[node] = sent
            else:
                messages.own[node] = None
        return messages

    def log_heads(self, messages: Messages) -> np.ndarray:
        """log p(evidence | head) [N, E] in nats."""
        own = messages.own[self.root]
        if own is None:
            return np.broadcast_to(messages.log_scale[:, None], (len(messages.log_scale), len(self.roots)))
        return (log(self.roots @ own) + messages.log_scale).T

    def posteriors(self, messages: Messages, heads: np.ndarray) -> list[np.ndarray]:
        """p(state of v | evidence, head of the row) by node, [H, N]; rows without probability are zeros."""
        flows: list = [None] * len(self.parents)
        for node in self.order:
            own = messages.own[node]
            if node == self.root:
                flow = self.roots[heads].T
            else:
                above, sent = flows[self.parents[node]], messages.sent[node]
                if sent is not None:
                    above = np.divide(above, sent, out=np.zeros_like(above), where=sent > 0)
                flow = self.edges[node].T @ above
            flow = flow if own is None else flow * own
            total = flow.sum(0)
            flows[node] = flow / np.where(total > 0, total, 1)
        return flows

    def sample(self, messages: Messages, heads: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """States [N, V] drawn given the evidence and the head of every row."""
        states = np.empty((len(heads), len(self.parents)), np.int64)
        for node in self.order:
            above = self.roots[heads] if node == self.root else self.edges[node][states[:, self.parents[node]]]
            own = messages.own[node]
            states[:, node] = draw(above if own is None else above * own.T, rng)
        return states

    def most_probable(self, log_evidence: np.ndarray) -> np.ndarray:
        """States [N, V] that are most probable together, given log e_v(h) [N, V, H], under the first head (max-product)."""
        best, log_edges = log_evidence.astype(float), log(self.edges)
        choice = np.zeros(best.shape, np.int64)  # [n, c, h]: the best state of c where its parent is in state h
        for node in reversed(self.order[1:]):
            for row in range(len(best)):
                joint = log_edges[node] + best[row, node]
                choice[row, node] = joint.argmax(1)
                best[row, self.parents[node]] += joint.max(1)
        states = np.empty(best.shape[:2], np.int64)
        states[:, self.root] = (best[:, self.root] + log(self.roots[0])).argmax(1)
        for node in self.order[1:]:
            states[:, node] = choice[np.arange(len(best)), node, states[:, self.parents[node]]]
        return states


def _scaled(messages: Messages, factor: np.ndarray | None, message: np.ndarray | None) -> np.ndarray | None:
    """The product of both, its greatest entry 1 in every row; what was taken out goes to the logarithms."""
    if factor is None:
        return message
    product = factor if message is None else message * factor
    top = product.max(0)
    messages.log_scale += log(top)
    return product / np.where(top > 0, top, 1)
