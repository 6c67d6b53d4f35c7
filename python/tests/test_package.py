"""Doctests of the package, pictures as they come in, and run folders."""

import doctest
import importlib
import pkgutil
import tempfile
import unittest
from pathlib import Path

import numpy as np

import lvd
from lvd import color
from tests import tiny


def load_tests(loader, tests, pattern):
    for module in pkgutil.iter_modules(lvd.__path__):
        tests.addTests(doctest.DocTestSuite(importlib.import_module(f"lvd.{module.name}")))
    return tests


class Pictures(unittest.TestCase):
    def test_bijective_colours_come_back(self):
        x = np.random.default_rng(0).integers(0, 256, (10_000, 3), np.uint8)
        for name in ("rgb", "ycocg_r", "ycocg_r_mod"):
            np.testing.assert_array_equal(color.inverse(name, color.forward(name, x), 256), x)
        with self.assertRaisesRegex(ValueError, "merges colours"):
            color.inverse("ycbcr_bt709", x, 256)

    def test_what_does_not_fit_is_named(self):
        m = tiny.hclt("tree")
        for x, text in (
            (np.zeros((1, 3, 4), np.uint8), r"expected pictures \[N, 2, 4, 1\], found an array \[1, 3, 4\]"),
            (np.zeros((1, 2, 4)), "expected pictures of type uint8, found float64"),
            (np.full((1, 2, 4), 2, np.uint8), "expected values below 2, the model's levels, found 2"),
        ):
            with self.assertRaisesRegex(ValueError, text):
                m.log_prob(x)
        x = np.zeros((2, 2, 4), np.uint8)
        with self.assertRaisesRegex(ValueError, "mask of type bool"):
            m.log_prob(x, observed=np.zeros((2, 4)))
        with self.assertRaisesRegex(ValueError, r"expected a mask \[2, 4\] or \[2, 2, 4\], found \[4, 2\]"):
            m.log_prob(x, observed=np.zeros((4, 2), bool))
        with self.assertRaisesRegex(ValueError, "belong to the density reading"):
            m.log_prob(x, dequantised=True)

    def test_no_pictures_are_no_answers(self):
        for m in (tiny.hclt("tree"), tiny.gaussian()):
            x, mask = np.zeros((0, 2, 4), np.uint8), np.ones((2, 4), bool)
            self.assertEqual(m.log_prob(x).shape, (0,))
            self.assertEqual(m.posterior(x).shape, (0, 2, m.clusters))
            self.assertEqual(m.sample(0).shape, (0, 2, 4, 1))
        with self.assertRaisesRegex(lvd.Refusal, "n is -1, expected at least 0"):
            m.sample(-1)
        with self.assertRaisesRegex(lvd.Refusal, "n is 0, expected at least 1"):
            m.inpaint(np.zeros((1, 2, 4), np.uint8), np.ones((2, 4), bool), n=0)
            self.assertEqual(m.inpaint(x, mask, 3).shape, (0, 3, 2, 4, 1))


class Folders(unittest.TestCase):
    def test_missing_stages_and_strange_files_are_named(self):
        with tempfile.TemporaryDirectory() as run:
            (Path(run) / "config.yaml").write_text("name: digits\n")
            with self.assertRaisesRegex(FileNotFoundError, "no stage with a model .experiment digits."):
                lvd.load(run)
            with self.assertRaisesRegex(FileNotFoundError, "no model of stage joint: found none"):
                lvd.load(run, "joint")

    def test_damaged_files_are_told_in_one_exception(self):
        with tempfile.TemporaryDirectory() as run:
            path = Path(run) / "model.safetensors"
            tiny.saved(path, {"ranges": np.tile([0, 1], (4, 1))}, family="hclt")
            whole = path.read_bytes()
            for content in (b"", b"no such file", whole[:-1], whole[:20], whole + b"x", b"\0" * 100):
                path.write_bytes(content)
                with self.assertRaises(lvd.Damaged) as told:
                    lvd.load(path)
                text = str(told.exception)
                self.assertRegex(text, rf"^{path}: not a complete safetensors file \({len(content)} bytes\): .*make it again")
                self.assertIsNone(told.exception.__cause__)
            for missing, meta in (("'patch.inputs' is missing", {}), ("'shape' is missing", {"shape": None})):
                tiny.saved(path, {"ranges": np.tile([0, 1], (4, 1))}, family="hclt", **meta)
                with self.assertRaisesRegex(lvd.Damaged, f"{path}: {missing} from the model file: fetch it again"):
                    lvd.load(path)
            tiny.saved(path, {"ranges": np.zeros(4)}, family="hclt")
            with self.assertRaisesRegex(lvd.Damaged, "does not fit together: .*unpack"):
                lvd.load(path)
            tiny.saved(path, {}, family="hclt", format=1)
            with self.assertRaisesRegex(ValueError, "layout 1 of model files, expected 2"):
                lvd.load(path)

    def test_free_numbers(self):
        # Two trees of 4 variables with 2 states and 2 heads: 2 (2 + 3 * 2) + 2 * 4 * 2; a tree over 4 clusters: 3 + 3 * 4.
        self.assertEqual(tiny.hclt("tree").parameters, 16 + 16 + 15)
        # Three Gaussians: 4 + 10 + 1; independent latents: 2.
        self.assertEqual(tiny.gaussian("independent").parameters, 3 * 15 + 2)
