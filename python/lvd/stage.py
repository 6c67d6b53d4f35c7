"""Where a model lies in a run folder, and what a model file is (docs/format.md)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Optional, Union

import numpy as np
import yaml
from safetensors import SafetensorError, safe_open

from .chain import Chain
from .mixture import Mixture
from .model import Damaged

# Stages with a model, those that are looked for first where none is named.
STAGES = ("joint", "tree", "growing", "soft", "hard", "taken", "em_only", "pixel_hclt")
FORMAT = "2"
_AGAIN = "fetch it again, or make it again with `lvd run`"


def load(run: Union[str, Path], stage: Optional[str] = None) -> Union[Mixture, Chain]:
    """The model of a run folder's stage (the last one of distillation for None), or of a model file.

    >>> load("nowhere")
    Traceback (most recent call last):
    FileNotFoundError: nowhere: no such run folder or model file: make one with `lvd run EXPERIMENT --run-dir nowhere`
    """
    path = Path(run)
    if not path.exists():
        raise FileNotFoundError(f"{run}: no such run folder or model file: make one with `lvd run EXPERIMENT --run-dir {run}`")
    if path.is_dir():
        path = _model_file(path, stage)
    meta, tensors = read(path)
    try:
        return (Chain if int(meta.get("context", 0)) > 0 else Mixture)(meta, tensors)
    except KeyError as error:
        raise Damaged(f"{path}: {error} is missing from the model file: {_AGAIN}") from None
    except (ValueError, IndexError, TypeError) as error:
        raise Damaged(f"{path}: what the model file holds does not fit together: {error}: {_AGAIN}") from None


def read(path: Path) -> tuple[dict[str, str], dict[str, np.ndarray]]:
    """Metadata and tensors of a model file."""
    try:
        with safe_open(path, framework="np") as file:
            stored = (file.metadata() or {}).get("lvd")
            if stored is None:
                raise ValueError(f"{path}: not a model file of lvd (its metadata has no entry `lvd`)")
            meta, tensors = json.loads(stored), {name: file.get_tensor(name) for name in file.keys()}
    except (SafetensorError, json.JSONDecodeError) as error:
        size = path.stat().st_size
        raise Damaged(f"{path}: not a complete safetensors file ({size} bytes): {error}: {_AGAIN}") from None
    if meta.get("format") != FORMAT:
        raise ValueError(f"{path}: layout {meta.get('format')} of model files, expected {FORMAT}: use a package as old or as "
                         "new as the program that made it")
    return meta, tensors


def _model_file(run: Path, stage: Optional[str]) -> Path:
    found = [name for name in STAGES if (run / name / "model.safetensors").is_file()]
    if stage is None and not found:
        raise FileNotFoundError(f"{run}: no stage with a model ({_name(run)}): finish it with `lvd run`")
    stage = stage or found[0]
    if stage not in found:
        raise FileNotFoundError(f"{run}: no model of stage {stage}: found {', '.join(found) or 'none'}")
    return run / stage / "model.safetensors"


def _name(run: Path) -> str:
    """What the folder's experiment is called."""
    config = run / "config.yaml"
    if not config.is_file():
        return "not a run folder, it has no config.yaml"
    return f"experiment {yaml.safe_load(config.read_text()).get('name')}"
