#!/usr/bin/env python3
# /// script
# requires-python = ">=3.11"
# dependencies = ["torch==2.11.0", "numpy==2.4.6"]
# ///
"""Make the tiny modules of this folder, all of them for grey pictures of 8 x 8 and patches of 4 x 4.

    python weights/tiny/make.py && (cd weights && sha256sum tiny/*.pt tiny/*.pkl > SHA256SUMS)

good.pt        keeps the contract in several ways, a method each; carries it as lvd.json
undescribed.pt the same without lvd.json
broken.pt      breaks the contract in every way that a scripted module can, a method each
baked.pt       traced with a reshape to the batch of 4 that it was traced on
cuda.pt        its tensors say that they lay on the first GPU
state_dict.pt, pickle.pkl: what is often taken for a module
All weights are written down here; nothing is random.
"""

import json
import os
import pickle
import sys
import zipfile
from pathlib import Path
from typing import Dict, Tuple

import torch
from torch import Tensor, nn
from torch.nn import functional

HERE = Path(__file__).parent
CONTRACT = {"method": "features", "input": {"range": [0, 1], "channels": 1}, "output": {}}


class Good(nn.Module):
    """Two features a patch: the mean, and the mean of the left half less that of the right half."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 4, stride=4)
        sides = torch.tensor([1.0, 1.0, -1.0, -1.0]).expand(4, 4) / 8
        self.conv.weight.data = torch.stack([torch.full((4, 4), 1 / 16), sides]).unsqueeze(1)
        self.conv.bias.data.zero_()

    def forward(self, x: Tensor) -> Dict[str, Tensor]:
        return {"map": self.conv(x), "codes": self.encode(x)}

    @torch.jit.export
    def features(self, x: Tensor) -> Tensor:
        return self.conv(x).flatten(2).transpose(1, 2)

    @torch.jit.export
    def pair(self, x: Tensor) -> Tuple[Tensor, Tensor]:
        return self.encode(x), self.conv(x)

    @torch.jit.export
    def tokens(self, x: Tensor) -> Tensor:
        """With a token of the whole picture in front."""
        patches = self.features(x)
        return torch.cat([patches.mean(1, keepdim=True), patches], 1)

    @torch.jit.export
    def fine(self, x: Tensor) -> Tensor:
        """A grid of 2 x 2 cells a patch: mean and deviation from 0.5 of 2 x 2 pixels."""
        mean = functional.avg_pool2d(x, 2)
        return torch.cat([mean, (mean - 0.5).abs()], 1)

    @torch.jit.export
    def encode(self, x: Tensor) -> Tensor:
        """One of three codes a patch, by its mean."""
        return (self.conv(x)[:, 0] * 3).long().clamp(0, 2)

    @torch.jit.export
    def dropped(self, x: Tensor) -> Tensor:
        """Differs from `features` in training mode only."""
        return functional.dropout(self.features(x), 0.5, self.training)

    @torch.jit.export
    def log_likelihood(self, x: Tensor) -> Tensor:
        """Of 17 levels drawn evenly, nats a picture."""
        return torch.full([x.size(0)], -64 * 2.833213344056216, device=x.device)


class Broken(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.Parameter(torch.arange(8.0).reshape(1, 4, 2))
        self.register_buffer("seed", torch.tensor(1.0))

    def patches(self, x: Tensor) -> Tensor:
        return functional.avg_pool2d(x, 4).flatten(2).transpose(1, 2)

    def forward(self, x: Tensor) -> Tensor:
        raise ValueError("pictures of a cat\nare expected")

    @torch.jit.export
    def two_arguments(self, x: Tensor, mask: Tensor) -> Tensor:
        return x * mask

    @torch.jit.export
    def number(self, x: int) -> int:
        return x + 1

    @torch.jit.export
    def text(self, x: Tensor) -> str:
        return "features"

    @torch.jit.export
    def named(self, x: Tensor) -> Dict[str, Tensor]:
        return {"tokens": self.patches(x)}

    @torch.jit.export
    def pooled(self, x: Tensor) -> Tensor:
        return self.patches(x).mean(1)

    @torch.jit.export
    def coarse(self, x: Tensor) -> Tensor:
        return functional.avg_pool2d(x, 8)

    @torch.jit.export
    def odd(self, x: Tensor) -> Tensor:
        return functional.adaptive_avg_pool2d(x, [3, 3])

    @torch.jit.export
    def lost_token(self, x: Tensor) -> Tensor:
        return self.patches(x)[:, 1:]

    @torch.jit.export
    def width_of_the_batch(self, x: Tensor) -> Tensor:
        return self.patches(x).repeat(1, 1, x.size(0))

    @torch.jit.export
    def first_only(self, x: Tensor) -> Tensor:
        return self.patches(x)[:1]

    @torch.jit.export
    def double(self, x: Tensor) -> Tensor:
        return self.patches(x).double()

    @torch.jit.export
    def half(self, x: Tensor) -> Tensor:
        return self.patches(x).half()

    @torch.jit.export
    def infinite(self, x: Tensor) -> Tensor:
        """Infinite where a patch is white, NaN where it is black; finite on noise."""
        mean = self.patches(x)
        return 1 / (1 - mean) + mean / mean

    @torch.jit.export
    def on_the_gpu(self, x: Tensor) -> Tensor:
        return self.patches(x) + torch.ones(1, device="cuda:0")

    @torch.jit.export
    def graded(self, x: Tensor) -> Tensor:
        return self.patches(x).requires_grad_()

    @torch.jit.export
    def constant(self, x: Tensor) -> Tensor:
        return torch.ones(x.size(0), 4, 3)

    @torch.jit.export
    def drawn(self, x: Tensor) -> Tensor:
        return self.patches(x) + torch.rand(1)

    @torch.jit.export
    def centred(self, x: Tensor) -> Tensor:
        """Like batch normalisation in training mode."""
        patches = self.patches(x)
        return patches - patches.mean(0, keepdim=True)

    @torch.jit.export
    def many_codes(self, x: Tensor) -> Tensor:
        return (functional.avg_pool2d(x, 4).squeeze(1) * 1000).long()

    @torch.jit.export
    def short_codes(self, x: Tensor) -> Tensor:
        return functional.avg_pool2d(x, 4).squeeze(1).int()


class Baked(nn.Module):
    def forward(self, x):
        return functional.avg_pool2d(x, 4).reshape(int(x.shape[0]), 4, 1)


def save(module, name, contract=None):
    extra = {} if contract is None else {"lvd.json": json.dumps(contract)}
    torch.jit.save(module, str(HERE / name), _extra_files=extra)


def lighten(name):
    """Leave out what the debugger alone wants; everything else stays as it is."""
    path = HERE / name
    with zipfile.ZipFile(path) as archive:
        kept = [(entry, archive.read(entry)) for entry in archive.namelist() if not entry.endswith(".debug_pkl")]
    write(path, kept)


def write(path, entries):
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in entries:
            archive.writestr(zipfile.ZipInfo(name), content)


def move_to_cuda(name):
    """Say of every tensor that it lay on the first GPU (there is none where this script usually runs)."""
    path = HERE / name
    with zipfile.ZipFile(path) as archive:
        entries = [(entry, archive.read(entry)) for entry in archive.namelist()]
    there = b"X\x06\x00\x00\x00cuda:0"
    write(path, [(e, c.replace(b"X\x03\x00\x00\x00cpu", there) if e.endswith(".pkl") else c) for e, c in entries])


def main():
    torch.manual_seed(0)
    save(torch.jit.script(Good()), "good.pt", CONTRACT)  # in training mode: eval mode is forced
    save(torch.jit.script(Good()), "undescribed.pt")
    save(torch.jit.script(Good()), "cuda.pt", CONTRACT)
    save(torch.jit.script(Broken().eval()), "broken.pt")
    save(torch.jit.trace(Baked().eval(), torch.zeros(4, 1, 8, 8)), "baked.pt")
    for name in ["good.pt", "undescribed.pt", "cuda.pt", "broken.pt", "baked.pt"]:
        lighten(name)
    move_to_cuda("cuda.pt")
    torch.save(Good().state_dict(), HERE / "state_dict.pt")
    (HERE / "pickle.pkl").write_bytes(pickle.dumps({"weights": [1.0, 2.0]}))


if __name__ == "__main__":
    if os.environ.get("PYTHONHASHSEED") != "0":  # TorchScript writes constants in the order of a set of names
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, "PYTHONHASHSEED": "0"})
    main()
