#!/usr/bin/env python3
# /// script
# requires-python = ">=3.11"
# dependencies = ["torch==2.11.0", "torchvision==0.26.0", "numpy==2.4.6"]
# ///
"""The feature map of a torchvision backbone at a chosen stage.

    python experiments/teachers/torchvision_backbone.py --random-weights --out weights/resnet18.pt
    python experiments/teachers/torchvision_backbone.py --model resnet50 --node layer2 --out weights/resnet50.pt
"""

import torch
import torchvision
from torch import Tensor, nn
from torchvision.models.feature_extraction import create_feature_extractor

from contract import arguments, write


class Map(nn.Module):
    def __init__(self, backbone: nn.Module, node: str):
        super().__init__()
        self.backbone = create_feature_extractor(backbone.eval(), {node: "map"})

    def forward(self, x: Tensor) -> Tensor:
        return self.backbone(x)["map"]


parser = arguments(__doc__)
parser.add_argument("--model", default="resnet18")
parser.add_argument("--node", default="layer2", help="the stage whose map is given")
parser.add_argument("--size", type=int, default=64, help="pictures are brought to this size, bilinear")
args = parser.parse_args()
torch.manual_seed(args.seed)
weights = None if args.random_weights else "DEFAULT"
model = Map(torchvision.models.get_model(args.model, weights=weights), args.node)
imagenet = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225], "resize": "bilinear"}
write(model, args.size, 3, {"input": imagenet, "output": {"pool": "mean"}}, args.out)
