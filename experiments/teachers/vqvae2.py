#!/usr/bin/env python3
# /// script
# requires-python = ">=3.11"
# dependencies = ["torch==2.11.0", "numpy==2.4.6"]
# ///
"""The encoder of a VQ-VAE-2 as in the paper: two levels of 1,024 codes, bottom and top embeddings of every patch.

    python experiments/teachers/vqvae2.py --random-weights --out weights/vqvae2.pt
    python experiments/teachers/vqvae2.py --state-dict mine.pth --out weights/vqvae2.pt
"""

import torch
from torch import Tensor, nn

from contract import arguments, write


class Residual(nn.Module):
    def __init__(self, width: int, inner: int, blocks: int = 2):
        super().__init__()
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.ReLU(), nn.Conv2d(width, inner, 3, padding=1), nn.ReLU(), nn.Conv2d(inner, width, 1))
            for _ in range(blocks)
        )

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = x + block(x)
        return torch.relu(x)


class Quantiser(nn.Module):
    def __init__(self, codes: int, width: int):
        super().__init__()
        self.codebook = nn.Parameter(torch.randn(codes, width))

    def forward(self, x: Tensor) -> Tensor:
        """The nearest codebook vector of every cell of [B, E, h, w]."""
        z = x.permute(0, 2, 3, 1)
        distance = self.codebook.square().sum(1) - 2 * z @ self.codebook.T
        return self.codebook[distance.argmin(-1)].permute(0, 3, 1, 2)


class Encoder(nn.Module):
    """Features [B, 2 E, h, w]: the bottom vector of every patch of 4 x 4, and the top vector above it."""

    def __init__(self, channels: int, hidden: int = 128, residual: int = 32, embedding: int = 64, codes: int = 1024):
        super().__init__()
        self.bottom = nn.Sequential(
            nn.Conv2d(channels, hidden // 2, 4, 2, 1), nn.ReLU(), nn.Conv2d(hidden // 2, hidden, 4, 2, 1), nn.ReLU(),
            nn.Conv2d(hidden, hidden, 3, padding=1), Residual(hidden, residual),
        )
        self.top = nn.Sequential(
            nn.Conv2d(hidden, hidden // 2, 4, 2, 1), nn.ReLU(), nn.Conv2d(hidden // 2, hidden, 3, padding=1),
            Residual(hidden, residual), nn.Conv2d(hidden, embedding, 1),
        )
        self.down = nn.Sequential(
            nn.Conv2d(embedding, hidden, 3, padding=1), Residual(hidden, residual),
            nn.ConvTranspose2d(hidden, embedding, 4, 2, 1),
        )
        self.join = nn.Conv2d(hidden + embedding, embedding, 1)
        self.quantise_top = Quantiser(codes, embedding)
        self.quantise_bottom = Quantiser(codes, embedding)

    def forward(self, x: Tensor) -> Tensor:
        bottom = self.bottom(x)
        top = self.quantise_top(self.top(bottom))
        bottom = self.quantise_bottom(self.join(torch.cat([self.down(top), bottom], 1)))
        return torch.cat([bottom, top.repeat_interleave(2, 2).repeat_interleave(2, 3)], 1)


parser = arguments(__doc__)
parser.add_argument("--state-dict", help="weights that you trained")
parser.add_argument("--size", type=int, default=32)
parser.add_argument("--channels", type=int, default=3)
args = parser.parse_args()
torch.manual_seed(args.seed)
model = Encoder(args.channels)
if args.state_dict:
    model.load_state_dict(torch.load(args.state_dict, weights_only=True))
elif not args.random_weights:
    parser.error("give --state-dict, or --random-weights")
else:
    # At random, continuous vectors hardly differ: codes spread over what the encoder gives for noise.
    with torch.no_grad():
        noise = torch.rand(256, args.channels, args.size, args.size) * 2 - 1
        up = model.bottom(noise)
        top = model.top(up).permute(0, 2, 3, 1).flatten(0, 2)
        model.quantise_top.codebook.copy_(top[torch.randint(len(top), (1024,))])
        down = model.down(model.quantise_top(model.top(up)))
        low = model.join(torch.cat([down, up], 1)).permute(0, 2, 3, 1).flatten(0, 2)
        model.quantise_bottom.codebook.copy_(low[torch.randint(len(low), (1024,))])
write(model, args.size, args.channels, {"input": {"range": [-1, 1]}}, args.out)
