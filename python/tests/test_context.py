"""Patches with context, pictures of two pixels: sums over all worlds, prefixes, draws."""

import unittest

import numpy as np

import lvd
from tests import tiny

FIRST = np.array([[True, False]])


class Context(unittest.TestCase):
    def setUp(self):
        self.models = [tiny.context(gated) for gated in (False, True)]

    def p(self, m, x, observed=None):
        return np.exp(m.log_prob(x, observed, reading="ordered", window=np.inf))

    def test_all_worlds_sum_to_1_and_prefixes_are_sums(self):
        for m in self.models:
            worlds = tiny.worlds(m)
            p = self.p(m, worlds)
            self.assertAlmostEqual(p.sum(), 1, 9)
            by_first = p.reshape(27, 27).sum(1)
            np.testing.assert_allclose(self.p(m, worlds[::27], FIRST), by_first)
            np.testing.assert_allclose(self.p(m, worlds[:1], np.zeros((1, 2), bool)), 1)
            np.testing.assert_allclose(self.p(m, worlds[:1], np.ones((1, 2), bool)), p[:1])
            # A picture of one pixel is the first pixel of one of two.
            np.testing.assert_allclose(self.p(m, worlds[::27, :, :1]), by_first)

    def test_the_density_integrates_to_1(self):
        for m in self.models:
            rng = np.random.default_rng(0)
            deviation = 4.0
            points = rng.normal(1.5, deviation, (40_000, 1, 1, 3))
            proposal = np.exp(-((points - 1.5) ** 2).sum((1, 2, 3)) / (2 * deviation**2)) / (2 * np.pi * deviation**2) ** 1.5
            ratio = np.exp(m.log_prob(points, dequantised=True)) / proposal
            self.assertLess(abs(ratio.mean() - 1), 5 * ratio.std() / 200)

    def test_samples_and_completions_come_as_often_as_they_should(self):
        for m in self.models:
            worlds = tiny.worlds(m)
            p = self.p(m, worlds)
            self.assertTrue(tiny.frequencies_agree(tiny.counted(m, m.sample(4000, seed=1)), p))
            x = worlds[300]
            drawn = m.inpaint(x[None], FIRST, 4000, seed=2)[0]
            self.assertTrue((drawn[:, 0, 0] == x[0, 0]).all())
            given = p * (worlds[:, 0, 0] == x[0, 0]).all(1)
            self.assertTrue(tiny.frequencies_agree(tiny.counted(m, drawn), given))

    def test_samples_of_the_density_are_rounded_down_dequantised_ones(self):
        for m in self.models:
            drawn = m.sample(4000, seed=1, reading="density")[:, 0, 0]
            rng = np.random.default_rng(0)
            points = rng.uniform(-7, 10, (60_000, 1, 1, 3))
            weights = np.exp(m.log_prob(points, dequantised=True))
            cells = np.clip(np.floor(points[:, 0, 0, 2]), 0, 2).astype(int)
            expected = np.bincount(cells, weights) / weights.sum()
            np.testing.assert_allclose(np.bincount(drawn[:, 2], minlength=3) / 4000, expected, atol=0.06)

    def test_decomposition_and_posterior(self):
        for m in self.models:
            x = tiny.worlds(m)[::100]
            found = m.decompose(x, reading="ordered")
            np.testing.assert_allclose(found.total, -m.log_prob(x, reading="ordered", window=np.inf))
            posterior = m.posterior(x, reading="ordered")
            np.testing.assert_allclose(posterior.sum(-1), 1)
            np.testing.assert_allclose(np.exp(-found.refund), posterior.max(-1).prod(1), 1e-6)

    def test_other_masks_are_refused(self):
        x = np.zeros((1, 1, 2, 3), np.uint8)
        for question in (self.models[0].log_prob, self.models[0].inpaint):
            with self.assertRaisesRegex(lvd.Refusal, "no closed marginal.*observe the first patches of 1 x 1 pixels"):
                question(x, ~FIRST)
        with self.assertRaisesRegex(lvd.Refusal, "average over"):
            self.models[0].conditional_mean(x, FIRST)
