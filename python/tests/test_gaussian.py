"""Gaussian scale mixtures of 4 or 8 pixels against plain formulas, integrals on a grid, and sums over all worlds."""

import unittest

import numpy as np

import lvd
from tests import tiny

MASK = np.array([[True, False], [True, True]])
KINDS = ({}, {"groups": 2}, {"low_rank": True, "groups": 2})


def plain(m, points, places):
    """Density of the numbers `places` of single patches [N, 4], component by component."""
    t, total = m.tensors, 0
    shapes = t["patch.shape"] if "patch.shape" in t else [a @ a.T + np.diag(b) for a, b in zip(t["patch.loadings"], t["patch.noise"])]
    at = [int(np.flatnonzero(t["patch.order"] == place)[0]) for place in places]
    y = (points - t["patch.centre"])[:, t["patch.order"]][:, at]
    for k, weights in enumerate(np.exp(t["patch.log_weights"])):
        for s, weight in enumerate(weights):
            sigma = t["patch.scales"][s, t["patch.group"]]
            cov = (shapes[k] * np.outer(sigma, sigma))[np.ix_(at, at)]
            apart = y - t["patch.mean"][k, at]
            distance = np.einsum("nd,de,ne->n", apart, np.linalg.inv(cov), apart)
            total += np.exp(t["prior.log_weights"][k]) * weight * np.exp(-distance / 2) / np.sqrt(np.linalg.det(2 * np.pi * cov))
    return total


class Density(unittest.TestCase):
    def test_whole_patches_and_marginals_are_the_plain_formula(self):
        points = np.random.default_rng(0).uniform(0, 4, (5, 2, 2, 1))
        for kind in KINDS:
            m = tiny.gaussian("independent", width=2, **kind)
            flat = points.reshape(5, 4)
            np.testing.assert_allclose(np.exp(m.log_prob(points, dequantised=True)), plain(m, flat, range(4)))
            marginal = m.log_prob(points, observed=MASK, dequantised=True)
            np.testing.assert_allclose(np.exp(marginal), plain(m, flat, [0, 2, 3]))

    def test_conditional_means_are_integrals_and_completions_agree(self):
        for kind in KINDS:
            m = tiny.gaussian("independent", width=2, **kind)
            x = np.array([[[1], [2]], [[0], [3]]], np.uint8)[None]
            grid = np.linspace(-60, 60, 24001)
            points = np.repeat(x + np.random.default_rng([7, 0]).random((2, 2, 1)), len(grid), 0)
            points[:, 0, 1, 0] = grid
            p = np.exp(m.log_prob(points, dequantised=True)) * (grid[1] - grid[0])
            self.assertAlmostEqual(np.log(p.sum()), m.log_prob(x, observed=MASK, seed=7)[0], 6)
            p /= p.sum()
            mean, deviation = m.conditional_mean(x, MASK, seed=7)
            self.assertAlmostEqual(mean[0, 0, 1, 0], p @ grid - 0.5, 5)
            self.assertAlmostEqual(deviation[0, 0, 1, 0], np.sqrt(p @ grid**2 - (p @ grid) ** 2), 5)
            self.assertTrue((mean[0, MASK] == x[0, MASK]).all() and (deviation[0, MASK] == 0).all())
            drawn = m.inpaint(x, MASK, 4000, seed=7)[0]
            self.assertTrue((drawn[:, MASK] == x[0, MASK]).all())
            cells = np.clip(np.floor(grid), 0, 3).astype(int)
            counts = np.bincount(drawn[:, 0, 1, 0], minlength=4)
            self.assertTrue(tiny.frequencies_agree(counts, np.bincount(cells, p)))

    def test_patches_know_each_other_by_the_tree(self):
        m = tiny.gaussian("tree")
        mask = np.zeros((2, 4), bool)
        mask[:, :2] = True
        points = np.random.default_rng(0).uniform(0, 4, (200, 2, 4, 1))
        points[1:, :, :2] = points[0, :, :2]  # the same left patch
        # p(left, right) / p(left) = sum_z p(z_2 | left) p(right | z_2), by the posterior alone.
        posterior = m.posterior(points[:1], mask, dequantised=True)[0, 1]
        right = m.patch.log_prob(m.view.cut(points)[:, 1])
        ratio = m.log_prob(points, dequantised=True) - m.log_prob(points, mask, dequantised=True)
        np.testing.assert_allclose(np.exp(ratio), np.exp(right) @ posterior)

    def test_noise_is_by_picture_and_may_be_handed_over(self):
        m, x = tiny.gaussian(), np.random.default_rng(0).integers(0, 4, (3, 2, 4), np.uint8)
        noise = np.stack([np.random.default_rng([5, i]).random((2, 4, 1)) for i in range(3)])
        np.testing.assert_array_equal(m.log_prob(x, seed=5), m.log_prob(x, noise=noise))
        np.testing.assert_array_equal(m.log_prob(x, seed=5), m.log_prob(x[..., None] + noise, dequantised=True))
        np.testing.assert_array_equal(m.log_prob(x, seed=5)[:2], m.log_prob(x[:2], seed=5))


class Ordered(unittest.TestCase):
    def test_all_worlds_sum_to_1_and_samples_agree(self):
        for kind in KINDS:
            m = tiny.gaussian("independent", width=2, **kind)
            p = np.exp(m.log_prob(tiny.worlds(m), reading="ordered", window=np.inf))
            self.assertAlmostEqual(p.sum(), 1, 6)
            drawn = m.sample(4000, seed=3, reading="ordered")
            self.assertTrue(tiny.frequencies_agree(tiny.counted(m, drawn), p))

    def test_a_window_bounds_from_below(self):
        m = tiny.gaussian()
        x = tiny.worlds(tiny.gaussian(width=2))[:64].repeat(2, 2)
        whole, part = (m.log_prob(x, reading="ordered", window=window) for window in (np.inf, 1))
        self.assertTrue((part <= whole + 1e-12).all() and (part < whole - 1e-3).any())

    def test_samples_of_the_density_are_rounded_down(self):
        m = tiny.gaussian("independent", width=2)
        drawn = m.sample(4000, seed=3)
        grid = np.linspace(-60, 60, 12001)
        density = plain(m, grid[:, None].repeat(4, 1), [1])
        expected = np.bincount(np.clip(np.floor(grid), 0, 3).astype(int), density)
        self.assertTrue(tiny.frequencies_agree(np.bincount(drawn[:, 0, 1, 0], minlength=4), expected))


class Refusals(unittest.TestCase):
    def refused(self, text, question):
        with self.assertRaises(lvd.Refusal) as caught:
            question()
        self.assertIn(text, str(caught.exception))

    def test_what_has_no_marginal_is_refused_with_the_reason(self):
        x, mask = np.zeros((1, 2, 4), np.uint8), np.zeros((2, 4), bool)
        m = tiny.gaussian()
        self.refused("no marginal of the others", lambda: m.log_prob(x, mask, reading="ordered"))
        self.refused("reading exact: this model has density, ordered", lambda: m.log_prob(x, reading="exact"))
        lapped = tiny.gaussian(transform="cdf53", readings="density")
        for question in (lapped.inpaint, lapped.conditional_mean, lapped.log_prob):
            self.refused("transform cdf53 mixes pixels", lambda: question(x, mask))

    def test_the_linear_transform_keeps_volumes(self):
        plain_model, lapped = tiny.gaussian(), tiny.gaussian(transform="cdf53", readings="density")
        points = np.random.default_rng(0).uniform(0, 4, (2, 2, 4, 1))
        by_hand = lvd.wavelet.forward(points, 1)
        np.testing.assert_array_equal(lapped.log_prob(points, dequantised=True), plain_model.log_prob(by_hand, dequantised=True))
        self.assertEqual(lapped.sample(3).shape, (3, 2, 4, 1))
