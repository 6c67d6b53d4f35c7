"""Write a model as a TorchScript module that carries its contract (docs/teachers.md, "Teachers from elsewhere")."""

import argparse
import json
from pathlib import Path

import torch
from torch import nn


def arguments(description: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="the module's file, such as weights/teacher.pt")
    parser.add_argument("--random-weights", action="store_true", help="fetch nothing: weights at random from --seed")
    parser.add_argument("--seed", type=int, default=0)
    return parser


def write(model: nn.Module, size: int, channels: int, contract: dict, out: Path, script: bool = False) -> None:
    """Trace (or script) `forward` on two pictures, see that it takes another batch, and write it with `lvd.json`."""
    model = model.eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(1)
    pictures = [torch.rand(batch, channels, size, size, generator=generator) for batch in (2, 3)]
    with torch.no_grad():
        module = torch.jit.script(model) if script else torch.jit.trace(model, pictures[0], check_trace=False)
        for batch in pictures:
            distance = (module(batch).float() - model(batch).float()).abs().max().item()
            assert distance < 1e-4, f"the module differs from the model by {distance}"
    contract = {"method": "forward", **contract}
    contract["input"] = {"size": [size, size], "channels": channels, **contract["input"]}
    out.parent.mkdir(parents=True, exist_ok=True)
    torch.jit.save(module, str(out), _extra_files={"lvd.json": json.dumps(contract)})
    print(f"{out}: {tuple(module(pictures[0]).shape)} for two pictures of {channels} x {size} x {size}, {contract}")
