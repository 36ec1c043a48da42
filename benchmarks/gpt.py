"""How long a training step of the GPT takes: ours against one written straight down in PyTorch.

    python benchmarks/gpt.py --threads 1

The plain step has the same size, dropout and float32, `scaled_dot_product_attention`, AdamW with
foreach, and random batches; ours makes its batches (mixed, jittered, smoothed) as the training
does. Steps alternate, so that other work on the machine slows both. Prints a Markdown table.
"""

import argparse
import statistics
import time

import numpy as np
import torch
from fit import matmul_peak, show, wait
from torch import Tensor, nn
from torch.nn import functional as F

from nefgpt.base import training
from nefgpt.base.device import computing, device
from nefgpt.generators.gpt import batches
from nefgpt.generators.gpt import train as train_gpt
from nefgpt.generators.gpt.model import GPT, GPTConfig
from nefgpt.generators.settings import Gpt

# Codes, context, embedding, heads, layers, batch size. The paper's: its table 1, airplanes.
SIZES = {
    "default": (31, 32, 96, 4, 4, 32),
    "paper-256": (127, 3712, 256, 16, 6, 1),
    "paper-384": (127, 3712, 384, 16, 7, 1),
    "paper-512": (127, 3712, 512, 16, 8, 1),
}
DROPOUT = 0.1


class PlainBlock(nn.Module):
    """GPT-2's block."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU("tanh"), nn.Linear(4 * width, width)
        )
        self.dropout = nn.Dropout(DROPOUT)

    def forward(self, x: Tensor) -> Tensor:
        """Hidden states [B, T, E]."""
        heads = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for part in self.qkv(self.norms[0](x)).chunk(3, dim=-1)
        )
        y = F.scaled_dot_product_attention(*heads, dropout_p=DROPOUT, is_causal=True)
        x = x + self.dropout(self.out(y.transpose(1, 2).flatten(2)))
        return x + self.dropout(self.mlp(self.norms[1](x)))


class Plain(nn.Module):
    """GPT-2 with a tied head."""

    def __init__(self, vocabulary: int, context: int, width: int, heads: int, layers: int) -> None:
        super().__init__()
        self.token, self.position = nn.Embedding(vocabulary, width), nn.Embedding(context, width)
        nn.init.normal_(self.token.weight, std=0.02)
        self.dropout = nn.Dropout(DROPOUT)
        self.blocks = nn.Sequential(*(PlainBlock(width, heads) for _ in range(layers)))
        self.norm = nn.LayerNorm(width)

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits [B, T, V]."""
        x = self.token(tokens) + self.position.weight[: tokens.shape[1]]
        return self.norm(self.blocks(self.dropout(x))) @ self.token.weight.T


def plain_step(
    vocabulary: int, context: int, width: int, heads: int, layers: int, batch: int, precision: str
):
    """A function that takes one step of the plain model."""
    context_of = training.autocast(precision, device())
    model = Plain(vocabulary, context, width, heads, layers).to(device())
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.95), foreach=True)

    def step(_: int) -> None:
        tokens = torch.randint(vocabulary - 1, (batch, context), device=device())
        with context_of():
            logits = model(tokens)
        loss = F.cross_entropy(logits.float().flatten(0, 1), tokens.flatten())
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        loss.item()

    return step


def our_step(
    n_codes: int, context: int, width: int, heads: int, layers: int, batch: int, precision: str
):
    """A function that takes one step as `nefgpt.generators.gpt.train.train` does."""
    sizes = {"embedding": width, "heads": heads, "layers": layers, "dropout": DROPOUT}
    settings = Gpt(**sizes, batch_size=batch, jitter=0.1, mix=0.8, label_smoothing_width=0.7)
    model = GPT(GPTConfig(vocab_size=n_codes + 1, context=context, **sizes)).to(device())
    optimiser = train_gpt._optimiser(model, settings)
    smooth = batches.smooth_targets(n_codes, n_codes + 1, 0.7).to(device())
    codes = np.random.default_rng(0).integers(n_codes, size=(112, context))
    train = batches.Sequences(codes, None)
    context_of = training.autocast(precision, device())

    def step(iteration: int) -> None:
        made = batches.make_batch(train, settings, n_codes, iteration, 0)
        inputs, targets = (torch.from_numpy(part).to(device()) for part in made)
        optimiser.clear()
        losses = train_gpt.losses(model, inputs, targets, smooth, 1, context_of)
        training.gradients(model, losses, 1.0)
        optimiser.step(1e-3)

    return step


def clocks() -> tuple[float, float]:
    """Seconds of the wall's clock and of the process, when the device has done its work."""
    wait()
    return time.perf_counter(), time.process_time()


def seconds(function, *args) -> tuple[float, float]:
    """How long a call takes, by both clocks."""
    began = clocks()
    function(*args)
    return tuple(end - start for start, end in zip(began, clocks(), strict=True))


def flops(n_codes: int, context: int, width: int, heads: int, layers: int, batch: int) -> int:
    """Of a step's matrix products: forward and twice as many back, attention to all positions."""
    weights = 12 * width**2 * layers + width * (n_codes + 1)
    return 3 * 2 * batch * context * (weights + 2 * context * width * layers)


@computing()
def measure(name: str, sizes: tuple[int, ...], steps: int, precision: str = "float32") -> dict:
    """One row of the table; sizes as in `SIZES`."""
    n_codes, *size = sizes
    torch.manual_seed(0)
    ways = [plain_step(n_codes + 1, *size, precision), our_step(n_codes, *size, precision)]
    for way in ways * 2:
        way(0)
    taken = np.array([[seconds(way, i) for way in ways] for i in range(steps)])  # [steps, 2, 2]
    ratio = np.median(taken[:, 0] / taken[:, 1], axis=0)
    wall = statistics.median(taken[:, 1, 0])
    speed = flops(n_codes, *size) / wall
    peak = matmul_peak(dtype=torch.bfloat16 if precision == "bf16" else torch.float32)
    return {
        "size": name,
        "precision": precision,
        "plain ms": 1e3 * statistics.median(taken[:, 0, 0]),
        "ours ms": 1e3 * wall,
        "ratio": ratio[0],
        "ratio (CPU time)": ratio[1],
        "tokens/s": size[0] * size[-1] / wall,
        "GFLOP/s": speed / 1e9,
        "% of peak": 100 * speed / peak,
    }


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=["default"])
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--precision", choices=("float32", "bf16"), default="float32")
    parser.add_argument("--threads", type=int, help="PyTorch's; else as many as it likes")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    rows = [measure(name, SIZES[name], args.steps, args.precision) for name in args.sizes]
    show(rows)


if __name__ == "__main__":
    main()
