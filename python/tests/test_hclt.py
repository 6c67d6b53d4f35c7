"""Hidden Chow-Liu trees of 8 pixels against the sum over all worlds, clusters and hidden states."""

import unittest

import numpy as np

from tests import tiny

KINDS = ("independent", "tree", "hidden", "regions")
MASK = np.array([[True, False, True, False], [False, True, False, False]])


def conditional(m, x, mask=MASK):
    """All worlds and p(world | pixels of x in the mask)."""
    worlds = tiny.worlds(m)
    p = np.exp(m.log_prob(worlds)) * (worlds[..., 0] == x[..., 0])[:, mask].all(1)
    return worlds, p / p.sum()


class Enumeration(unittest.TestCase):
    def test_every_world_is_as_the_sum_over_clusters_and_states_says_and_all_sum_to_1(self):
        for kind in KINDS:
            m = tiny.hclt(kind)
            worlds = tiny.worlds(m)
            p = np.exp(m.log_prob(worlds))
            self.assertAlmostEqual(p.sum(), 1, 5)
            expected = [tiny.enumerated(m, x).sum() for x in worlds[::9]]
            np.testing.assert_allclose(p[::9], expected, 1e-6, 1e-12)

    def test_marginals_are_sums_and_parts_add_up(self):
        for kind in KINDS:
            m = tiny.hclt(kind)
            x, worlds = tiny.worlds(m)[77], tiny.worlds(m)
            p = np.exp(m.log_prob(worlds))
            agree = (worlds[..., 0] == x[..., 0])[:, MASK].all(1)
            marginal = m.log_prob(x[None], observed=MASK)[0]
            self.assertAlmostEqual(marginal, np.log(p[agree].sum()), 5)
            self.assertEqual(m.log_prob(x[None], observed=np.zeros((2, 4), bool)).round(5)[0], 0)
            # log p(a) + log p(b | a) = log p(a, b), a the mask and b the rest, by the conditional of all worlds.
            _, given = conditional(m, x)
            self.assertAlmostEqual(marginal + np.log(given[77]), np.log(p[77]), 5)

    def test_each_picture_may_have_its_own_mask(self):
        m = tiny.hclt("tree")
        x = tiny.worlds(m)[[3, 200]]
        both = m.log_prob(x, observed=np.stack([MASK, ~MASK]))
        np.testing.assert_allclose(both, [m.log_prob(x[:1], MASK)[0], m.log_prob(x[1:], ~MASK)[0]])

    def test_posteriors_latents_and_decomposition(self):
        for kind in KINDS:
            m = tiny.hclt(kind)
            x = tiny.worlds(m)[[5, 100, 254]]
            joint = np.stack([tiny.enumerated(m, one) for one in x])  # [N, z_1, z_2]
            joint /= joint.sum((1, 2), keepdims=True)
            each = np.stack([joint.sum(2), joint.sum(1)], 1)
            np.testing.assert_allclose(m.posterior(x), each, 1e-5)
            np.testing.assert_array_equal(m.latents(x), each.argmax(-1))
            np.testing.assert_array_equal(m.decompose(x).codes, each.argmax(-1))
            codes = m.latents(x, joint=True)
            found = m.decompose(x, codes)
            np.testing.assert_allclose(np.exp(-found.refund), joint[np.arange(3), codes[:, 0], codes[:, 1]], 1e-5)
            np.testing.assert_allclose(found.total, -m.log_prob(x))
            if kind != "hidden":
                np.testing.assert_allclose(np.exp(-found.refund), joint.max((1, 2)), 1e-5)

    def test_conditional_means_are_those_of_all_worlds(self):
        for kind in KINDS:
            m = tiny.hclt(kind)
            x = tiny.worlds(m)[77]
            worlds, p = conditional(m, x)
            mean, deviation = m.conditional_mean(x[None], MASK)
            expected = np.einsum("n,nhwc->hwc", p, worlds)
            np.testing.assert_allclose(mean[0], expected, 1e-5, 1e-9)
            np.testing.assert_allclose(deviation[0] ** 2, expected * (1 - expected), 1e-4, 1e-6)


class Draws(unittest.TestCase):
    def test_samples_come_as_often_as_their_probability_says(self):
        for kind in KINDS:
            m = tiny.hclt(kind)
            drawn = m.sample(4000, seed=1)
            self.assertEqual((drawn.shape, drawn.dtype), ((4000, 2, 4, 1), np.uint8))
            self.assertTrue(tiny.frequencies_agree(tiny.counted(m, drawn), np.exp(m.log_prob(tiny.worlds(m)))))

    def test_completions_come_as_often_as_the_conditional_says_and_keep_what_was_observed(self):
        for kind in KINDS:
            m = tiny.hclt(kind)
            x = tiny.worlds(m)[77]
            drawn = m.inpaint(x[None], MASK, 4000, seed=2)[0]
            self.assertTrue((drawn[:, MASK] == x[MASK]).all())
            self.assertTrue(tiny.frequencies_agree(tiny.counted(m, drawn), conditional(m, x)[1]))

    def test_the_test_of_frequencies_tells_distributions_apart(self):
        m, other = tiny.hclt("tree"), tiny.hclt("tree", seed=1)
        self.assertFalse(tiny.frequencies_agree(tiny.counted(m, m.sample(4000)), np.exp(other.log_prob(tiny.worlds(m)))))
