"""Questions to the probabilistic circuits that lvd has distilled, in numpy: likelihoods, marginals, samples, completions,
explanations, moments, latents.

    m = lvd.load("runs/mnist")
    m.log_prob(x)                      # nats [N] of pictures uint8 [N, H, W, C] or [N, H, W]
    m.log_prob(x, observed=mask)       # of the pixels in a mask, the rest summed out
    m.inpaint(x, mask, n=8, seed=0)    # completions
    m.explain(x, mask).pixels          # the completion that is most probable together with its latents
    m.moments(x, mask).variance        # of every number given what was observed

Written from docs/format.md alone, so that it is a check of the program and not a copy of it.
"""

from .model import Damaged, Decomposition, Explanation, Model, Moments, Refusal
from .stage import load

__all__ = ["Damaged", "Decomposition", "Explanation", "Model", "Moments", "Refusal", "load"]
