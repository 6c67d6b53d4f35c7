#!/usr/bin/env python3
# /// script
# requires-python = ">=3.11"
# dependencies = ["torch==2.11.0", "transformers==5.23.0", "numpy==2.4.6"]
# ///
"""An image model of the Hugging Face hub by its last hidden state: a map [B, D, h, w], or tokens after the class token.

    python experiments/teachers/huggingface.py --random-weights --out weights/convnext.pt
    python experiments/teachers/huggingface.py --model facebook/dinov2-small --size 112 --tokens-before 1 --out weights/dino.pt
"""

import torch
from torch import Tensor, nn
from transformers import AutoModel, ConvNextV2Config

from contract import arguments, write


class Last(nn.Module):
    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        return self.model(pixel_values=x, return_dict=False)[0]


parser = arguments(__doc__)
parser.add_argument("--model", default="facebook/convnextv2-atto-1k-224")
parser.add_argument("--size", type=int, default=64, help="pictures are brought to this size, bilinear")
parser.add_argument("--tokens-before", type=int, default=0, help="tokens before those of the patches, such as a class token")
args = parser.parse_args()
torch.manual_seed(args.seed)
if args.random_weights:
    model = AutoModel.from_config(ConvNextV2Config(hidden_sizes=[16, 32], depths=[2, 2], num_stages=2))
else:
    model = AutoModel.from_pretrained(args.model)
output = {"skip": args.tokens_before} if args.tokens_before else {}
imagenet = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225], "resize": "bilinear"}
write(Last(model), args.size, 3, {"input": imagenet, "output": output}, args.out)
