"""Adam with decoupled weight decay, in one pass over all weights."""

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.optim.adam import adam

# PyTorch's own, too.
BETAS = 0.9, 0.999
EPSILON = 1e-8


class Adam:
    """AdamW (Loshchilov and Hutter 2019) without PyTorch's class around its fused function.

    Making that class loads PyTorch's compiler, which takes longer (1.2 s) than a small model's
    first steps.

    Parameters
    ----------
    groups : (parameters, weight decay) pairs.
    betas : decay of the gradients' mean and of their mean square.
    """

    def __init__(
        self,
        groups: Iterable[tuple[Iterable[Tensor], float]],
        betas: tuple[float, float] = BETAS,
    ) -> None:
        self.groups = [(list(parameters), decay) for parameters, decay in groups]
        self.betas = betas
        every = [p for parameters, _ in self.groups for p in parameters]
        self.moments = {
            "mean": [torch.zeros_like(p) for p in every],
            "square": [torch.zeros_like(p) for p in every],
            # Of each its own, where the parameter is: so the fused function wants it.
            "steps": [torch.zeros((), dtype=torch.float32, device=p.device) for p in every],
        }

    def clear(self) -> None:
        """Forget the gradients."""
        for parameters, _ in self.groups:
            for parameter in parameters:
                parameter.grad = None

    @torch.no_grad()
    def step(self, rate: float) -> None:
        """Move all parameters by their gradients at this learning rate."""
        begin = 0
        for parameters, decay in self.groups:
            part = slice(begin, begin + len(parameters))
            begin = part.stop
            mean, square, steps = (moment[part] for moment in self.moments.values())
            adam(
                parameters,
                [p.grad for p in parameters],
                mean,
                square,
                [],
                steps,
                fused=True,
                decoupled_weight_decay=True,
                amsgrad=False,
                beta1=self.betas[0],
                beta2=self.betas[1],
                lr=rate,
                weight_decay=decay,
                eps=EPSILON,
                maximize=False,
            )

    def state(self) -> dict[str, list[Tensor]]:
        """What a resumed run needs; tensors that later steps change."""
        return self.moments

    @torch.no_grad()
    def resume(self, state: dict[str, list[Tensor]]) -> None:
        """Go on from what `state` gave."""
        for name, tensors in self.moments.items():
            for tensor, stored in zip(tensors, state[name], strict=True):
                tensor.copy_(stored)
