#!/usr/bin/env python3
# /// script
# requires-python = ">=3.11"
# dependencies = ["torch==2.11.0", "transformers==5.23.0", "numpy==2.4.6"]
# ///
"""A Vision Transformer, such as the encoder of a masked auto-encoder: every patch token with its 3 x 3 neighbourhood.

    python experiments/teachers/vit_neighbourhood.py --random-weights --out weights/vit.pt
    python experiments/teachers/vit_neighbourhood.py --model facebook/vit-mae-base --size 224 --out weights/mae.pt
"""

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import ViTConfig, ViTModel

from contract import arguments, write


class Neighbourhoods(nn.Module):
    """[B, 9 D, h, w]: tokens on their grid, each with those around it; zeros beyond the border."""

    def __init__(self, vit: nn.Module, side: int):
        super().__init__()
        self.vit, self.side = vit, side

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.vit(pixel_values=x, return_dict=False)[0][:, 1:]
        grid = tokens.transpose(1, 2).unflatten(2, (self.side, self.side))
        return functional.unfold(grid, 3, padding=1).unflatten(2, (self.side, self.side))


parser = arguments(__doc__)
parser.add_argument("--model", default="facebook/vit-mae-base")
parser.add_argument("--size", type=int, default=32)
args = parser.parse_args()
torch.manual_seed(args.seed)
if args.random_weights:
    small = dict(hidden_size=64, num_hidden_layers=4, num_attention_heads=4, intermediate_size=128)
    config = ViTConfig(image_size=args.size, patch_size=4, attn_implementation="eager", **small)
    vit = ViTModel(config, add_pooling_layer=False)
else:
    vit = ViTModel.from_pretrained(args.model, add_pooling_layer=False, attn_implementation="eager")
side = args.size // vit.config.patch_size
contract = {"input": {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225], "resize": "bilinear"}, "output": {"pool": "mean"}}
write(Neighbourhoods(vit, side), args.size, 3, contract, args.out)
