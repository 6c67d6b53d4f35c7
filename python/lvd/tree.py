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

from .logarithm import draw, largest, log

Evidence = Callable[[int], Optional[np.ndarray]]


@dataclass
class Messages:
    """What an upward pass of N rows leaves: m and s by node [H, N], None where a node and all below it were not observed."""

    own: list
    sent: list
    log_scale: np.ndarray


@dataclass
class Maximum:
    """What max-product leaves of N rows: log max over the states of p(states, evidence | head) [N, E], and by node its best state
    for every state of its parent, or for every head at the root: [H, N], or [H, 1] where it is the same for all rows."""

    log_heads: np.ndarray
    states: list


@dataclass(frozen=True)
class Tree:
    """parents int [V] (-1 at the root), roots [E, H], edges [V, H, H].

    >>> tree = Tree(np.array([-1, 0]), np.array([[0.5, 0.5]]), np.array([np.zeros((2, 2)), [[0.9, 0.1], [0.2, 0.8]]]))
    >>> seen = [np.array([[1.0], [0.0]]), np.array([[0.0], [1.0]])]
    >>> np.exp(tree.log_heads(tree.upward(seen.__getitem__, 1))).round(3)
    array([[0.05]])
    >>> best = tree.maximise(lambda v: None, 1)
    >>> np.exp(best.log_heads).round(3), tree.maximiser(best, np.array([0]))
    (array([[0.45]]), array([[0, 0]]))
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

    def maximise(self, log_evidence: Evidence, rows: int, keep: bool = True) -> Maximum:
        """The largest joint probabilities of states and evidence, `log_evidence(v)` being log e_v [H, rows], or None for zeros.
        Without `keep` it is not remembered where they are.

            m_v(h) = log e_v(h) + sum over children c of u_c(h),    u_c(j) = max over h of log W_c[j, h] + m_c(h)
        """
        messages: list = [None] * len(self.parents)
        states: list = [None] * len(self.parents)
        sent = np.zeros((len(self.roots), 1))
        for node in reversed(self.order):
            parts = [part for part in (messages[node], log_evidence(node)) if part is not None]
            own = sum(parts) if parts else np.zeros((self.edges.shape[2], 1))
            table = self.roots if node == self.root else self.edges[node]
            sent, best = largest(log(table), own)
            states[node], messages[node] = best if keep else None, None
            if node != self.root:
                parent = self.parents[node]
                messages[parent] = sent if messages[parent] is None else messages[parent] + sent
        return Maximum(np.broadcast_to(sent, (len(sent), rows)).T, states)

    def maximiser(self, maximum: Maximum, heads: np.ndarray) -> np.ndarray:
        """The states [N, V] where the maximum of every row's head is taken."""
        rows = np.arange(len(heads))
        states = np.empty((len(heads), len(self.parents)), np.int64)
        for node in self.order:
            above = heads if node == self.root else states[:, self.parents[node]]
            best = maximum.states[node]
            states[:, node] = best[above, rows if best.shape[1] > 1 else 0]
        return states


def _scaled(messages: Messages, factor: np.ndarray | None, message: np.ndarray | None) -> np.ndarray | None:
    """The product of both, its greatest entry 1 in every row; what was taken out goes to the logarithms."""
    if factor is None:
        return message
    product = factor if message is None else message * factor
    top = product.max(0)
    messages.log_scale += log(top)
    return product / np.where(top > 0, top, 1)
