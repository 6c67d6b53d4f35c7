"""Explanations, moments and completions of any pixels against enumeration (trees) and Schur complements (Gaussians)."""

import unittest

import numpy as np

import lvd
from tests import normals, tiny

PRIORS = ("independent", "tree", "hidden")
MASKS = [np.array(mask, bool) for mask in (
    [[1, 0, 1, 0], [0, 1, 0, 0]], [[1, 1, 0, 0], [1, 1, 0, 0]], [[0, 0, 0, 1], [0, 0, 0, 0]], np.zeros((2, 4)), np.ones((2, 4)))]
GAUSSIANS = ({}, {"groups": 2}, {"low_rank": True, "groups": 2})


def gaussians():
    """A model and the same as a mixture of normals over all pixels, for every prior and kind of covariance."""
    for prior in PRIORS:
        for kind in GAUSSIANS:
            m = tiny.gaussian(prior, **kind)
            yield m, normals.of_pairs(m)


class Trees(unittest.TestCase):
    def test_explanations_are_the_largest_of_all_latents_and_pictures(self):
        for prior in PRIORS:
            m = tiny.hclt(prior)
            x = tiny.worlds(m)[[3, 90, 201, 77, 130]]
            found = m.explain(x, np.stack(MASKS))
            for i, mask in enumerate(MASKS):
                log_joint, codes, picture = tiny.explained(m, x[i], mask)
                self.assertAlmostEqual(found.log_joint[i], log_joint, 6)
                np.testing.assert_array_equal(found.codes[i], codes)
                np.testing.assert_array_equal(found.pixels[i], picture)
                np.testing.assert_array_equal(found.numbers[i], picture)
            self.assertEqual(found.pixels.dtype, np.uint8)

    def test_an_explanation_explains_itself_and_is_less_probable_than_its_pixels(self):
        for prior in PRIORS:
            m = tiny.hclt(prior)
            x = tiny.worlds(m)[::10]
            found = m.explain(x, MASKS[0])
            self.assertTrue((found.pixels[:, MASKS[0]] == x[:, MASKS[0]]).all())
            again = m.explain(found.pixels)
            np.testing.assert_allclose(again.log_joint, found.log_joint)
            np.testing.assert_array_equal(again.pixels, found.pixels)
            self.assertTrue((found.log_joint <= m.log_prob(found.pixels) + 1e-12).all())

    def test_moments_are_those_of_all_worlds(self):
        for prior in PRIORS:
            m = tiny.hclt(prior)
            worlds = tiny.worlds(m)
            x, p = worlds[[3, 90, 201, 77, 130]], np.exp(m.log_prob(worlds))
            found = m.moments(x, np.stack(MASKS))
            for i, mask in enumerate(MASKS):
                given = p * (worlds == x[i])[:, mask].all((1, 2))
                mean = np.einsum("n,nhwc->hwc", given / given.sum(), worlds)
                np.testing.assert_allclose(found.mean[i], mean, 1e-5, 1e-6)
                np.testing.assert_allclose(found.variance[i], mean * (1 - mean), 1e-4, 1e-6)
                self.assertTrue((found.variance[i, mask] == 0).all())


class Gaussians(unittest.TestCase):
    def test_explanations_are_the_largest_of_all_components_at_their_conditional_means(self):
        points = np.random.default_rng(0).uniform(0, 4, (5, 2, 4, 1))
        for m, plain in gaussians():
            found = m.explain(points, np.stack(MASKS), dequantised=True)
            for i, mask in enumerate(MASKS):
                log_joint, codes, missing = plain.largest(points[i].ravel(), mask.ravel())
                self.assertAlmostEqual(found.log_joint[i], log_joint, 6)
                np.testing.assert_array_equal(found.codes[i], codes)
                np.testing.assert_allclose(found.numbers[i, ~mask].ravel(), missing)
                np.testing.assert_array_equal(found.numbers[i, mask], points[i, mask])

    def test_moments_are_schur_complements(self):
        points = np.random.default_rng(1).uniform(0, 4, (5, 2, 4, 1))
        for m, plain in gaussians():
            found = m.moments(points, np.stack(MASKS), dequantised=True)
            for i, mask in enumerate(MASKS):
                mean, covariance = plain.moments(points[i].ravel(), mask.ravel())
                np.testing.assert_allclose(found.mean[i, ~mask].ravel(), mean)
                np.testing.assert_allclose(found.variance[i, ~mask].ravel(), np.diagonal(covariance))
                np.testing.assert_array_equal(found.mean[i, mask], points[i, mask])
                self.assertTrue((found.variance[i, mask] == 0).all())

    def test_completions_come_as_often_as_the_conditional_says(self):
        x = np.random.default_rng(2).integers(0, 4, (2, 4, 1), np.uint8)
        points = x + np.random.default_rng([3, 0]).random((2, 4, 1))
        for m, plain in gaussians():
            for mask in MASKS[:3]:
                drawn = m.inpaint(x[None], mask, 3000, seed=3)[0]
                self.assertTrue((drawn[:, mask] == x[mask]).all())
                expected = plain.cells(points.ravel(), mask.ravel(), 4)
                for values, p in zip(drawn[:, ~mask, 0].T, expected):
                    self.assertTrue(tiny.frequencies_agree(np.bincount(values, minlength=4), p))

    def test_samples_come_as_often_as_the_cells_say(self):
        for m, plain in gaussians():
            drawn = m.sample(3000, seed=4).reshape(3000, 8)
            for values, p in zip(drawn.T, plain.cells(np.zeros(8), np.zeros(8, bool), 4)):
                self.assertTrue(tiny.frequencies_agree(np.bincount(values, minlength=4), p))

    def test_draws_within_a_picture_vary_together_as_they_should(self):
        count, mask = 20_000, MASKS[0]
        points = np.random.default_rng(5).uniform(0, 4, (1, 2, 4, 1))
        for m, plain in gaussians():
            patches, seen = m.view.cut(np.repeat(points, count, 0)), m.view.cut_mask(np.repeat(mask[None], count, 0))
            z = m.prior.sample(np.repeat(m.patch.log_prob(patches[0], seen[0])[None], count, 0), np.random.default_rng(6))
            flat = [a.reshape(-1, 4) for a in (patches, seen)]
            drawn = m.patch.sample(z.ravel(), *flat, np.random.default_rng(7)).reshape(patches.shape)
            missing = m.view.whole(drawn)[:, ~mask, 0]
            mean, covariance = plain.moments(points.ravel(), mask.ravel())
            apart = missing - mean
            products = np.einsum("nd,ne->nde", apart, apart)
            self.assertTrue((np.abs(apart.mean(0)) < 5 * apart.std(0) / np.sqrt(count)).all())
            self.assertTrue((np.abs(products.mean(0) - covariance) < 5 * products.std(0) / np.sqrt(count)).all())


class Arguments(unittest.TestCase):
    def test_noise_is_that_of_log_prob(self):
        m, x = tiny.gaussian(), np.random.default_rng(0).integers(0, 4, (3, 2, 4, 1), np.uint8)
        noise = np.stack([np.random.default_rng([5, i]).random((2, 4, 1)) for i in range(3)])
        for ask in (m.explain, m.moments):
            answers = [ask(x, MASKS[0], seed=5), ask(x, MASKS[0], noise=noise), ask(x + noise, MASKS[0], dequantised=True)]
            for field in ("numbers", "log_joint") if ask == m.explain else ("mean", "variance"):
                for other in answers[1:]:
                    np.testing.assert_array_equal(getattr(answers[0], field), getattr(other, field))
        found = m.explain(x, MASKS[0], seed=5)
        self.assertTrue((found.pixels[:, MASKS[0]] == x[:, MASKS[0]]).all())
        np.testing.assert_array_equal(found.pixels, np.clip(np.floor(found.numbers), 0, 3))

    def test_means_to_look_at_are_the_moments_without_the_noise(self):
        x = np.random.default_rng(0).integers(0, 4, (3, 2, 4, 1), np.uint8)
        m, mask = tiny.gaussian(), MASKS[0]
        found, (mean, deviation) = m.moments(x, mask, seed=2), m.conditional_mean(x, mask, seed=2)
        np.testing.assert_array_equal(mean[:, ~mask], found.mean[:, ~mask] - 0.5)
        np.testing.assert_array_equal(mean[:, mask], x[:, mask])
        np.testing.assert_array_equal(deviation, np.sqrt(found.variance))

    def test_no_pictures_are_no_answers(self):
        x = np.zeros((0, 2, 4), np.uint8)
        for m in (tiny.hclt("tree"), tiny.gaussian("hidden")):
            found = m.explain(x, MASKS[0])
            self.assertEqual((found.log_joint.shape, found.codes.shape), ((0,), (0, 2)))
            self.assertEqual((found.pixels.shape, found.numbers.shape), ((0, 2, 4, 1), (0, 2, 4, 1)))
            self.assertEqual(m.moments(x, MASKS[0]).variance.shape, (0, 2, 4, 1))

    def test_colours_that_merge_have_numbers_but_no_pixels(self):
        m = tiny.merged("tree")
        x = np.random.default_rng(0).integers(0, 256, (2, 1, 2, 3), np.uint8)
        found = m.explain(x, np.array([[True, False]]))
        self.assertIsNone(found.pixels)
        np.testing.assert_array_equal(found.numbers[:, 0, 0], m.view.integers(x)[:, 0, 0])


class Refusals(unittest.TestCase):
    def test_what_has_no_exact_answer_is_refused_with_the_reason(self):
        x, mask = np.zeros((1, 2, 4), np.uint8), MASKS[0]
        for name in ("explain", "moments"):
            with self.assertRaisesRegex(lvd.Refusal, f"{name}: the ordered reading .* of the others: use reading='density'"):
                getattr(tiny.gaussian(), name)(x, mask, reading="ordered")
            with self.assertRaisesRegex(lvd.Refusal, f"{name}: transform cdf53 mixes pixels"):
                getattr(tiny.gaussian(transform="cdf53", readings="density"), name)(x, mask)
        first, two = np.array([[True, False]]), np.zeros((1, 1, 2, 3), np.uint8)
        with self.assertRaisesRegex(lvd.Refusal, "explain: patches with context have no most probable picture in closed form"):
            tiny.context(False).explain(two, first)
        with self.assertRaisesRegex(lvd.Refusal, "moments: what follows a raster prefix has no closed mean: average over"):
            tiny.context(True).moments(two, first)
