"""Distances of clouds: time and equality against the field's usual code, and exact assignment.

    PYTHONPATH=. python benchmarks/distances.py --out benchmarks/results/distances.json

Chamfer: all pairs of two sets, against batches of pairs by PyTorch's matrix products (|a|^2 + |b|^2
- 2ab), which is how PointFlow's evaluation and its heirs compute it, and against SciPy's trees in
float64. That way is timed on some of the samples and counted up. EMD: pairs by the auction against
SciPy's exact assignment. Clouds are points on random ellipsoids' surfaces, normalised.
"""

import argparse
import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from scipy.spatial import cKDTree
from scipy.spatial.distance import cdist

from nefgpt.base.compiled import threads
from nefgpt.base.files import write_json
from nefgpt.signals.chamfer import chamfer_matrix
from nefgpt.signals.emd import GAP, emd
from nefgpt.signals.shapes import normalise_cloud

BATCH = 32  # pairs; PointFlow's evaluation has 60, which swaps on small machines


def clouds(n: int, points: int, seed: int) -> np.ndarray:
    """Normalised clouds float32 [n, points, 3]."""
    rng = np.random.default_rng(seed)
    made = rng.normal(size=(n, points, 3))
    made /= np.linalg.norm(made, axis=2, keepdims=True)
    made *= rng.uniform(0.1, 1, (n, 1, 3))
    return np.stack([normalise_cloud(one) for one in made])


def by_matmul(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """All pairs of Chamfer distances [n, m] as the field's code computes them."""
    first, second = torch.from_numpy(a), torch.from_numpy(b)
    found = []
    for one in first:
        row = []
        for others in second.split(BATCH):
            same = one.expand(len(others), -1, -1)
            products = torch.bmm(same, others.transpose(1, 2))
            squares = same.square().sum(2)[:, :, None] + others.square().sum(2)[:, None]
            apart = squares - 2 * products
            row.append(apart.amin(2).mean(1) + apart.amin(1).mean(1))
        found.append(torch.cat(row))
    return torch.stack(found).numpy()


def by_trees(a: np.ndarray, b: np.ndarray) -> float:
    """One Chamfer distance in float64."""
    a, b = a.astype(float), b.astype(float)
    return sum(np.square(cKDTree(y).query(x)[0]).mean() for x, y in ((a, b), (b, a)))


def timed(work: Callable) -> tuple[object, float]:
    """What work gives, and its seconds on the clock."""
    began = time.perf_counter()
    found = work()
    return found, time.perf_counter() - began


def of_chamfer(n: int, points: int, rows: int) -> dict:
    """Time of all pairs by both ways, and how far apart they are."""
    a, b = clouds(n, points, 0), clouds(n, points, 1)
    chamfer_matrix(a[:2], b[:2])  # compiles
    by_matmul(a[:1], b[:BATCH])
    ours, seconds = timed(lambda: chamfer_matrix(a, b))
    usual, part = timed(lambda: by_matmul(a[:rows], b))
    exact = np.array([[by_trees(a[i], b[j]) for j in range(10)] for i in range(10)])
    usual_seconds = part * n / rows
    return {
        "pairs": n * n,
        "points": points,
        "seconds": seconds,
        "ms_per_pair": 1e3 * seconds / n**2,
        "usual_samples_timed": rows,
        "usual_seconds": usual_seconds,
        "ratio": usual_seconds / seconds,
        "largest_difference_to_usual": float(np.abs(ours[:rows] / usual - 1).max()),
        "largest_difference_to_exact": float(np.abs(ours[:10, :10] / exact - 1).max()),
    }


def of_emd(points: int, pairs: int) -> dict:
    """Time and error of pairs by the auction, against exact assignment."""
    a, b = clouds(pairs, points, 2), clouds(pairs, points, 3)
    emd(a[0], b[0])
    ours, seconds = timed(lambda: [emd(x, y) for x, y in zip(a, b, strict=True)])

    def assigned(x: np.ndarray, y: np.ndarray) -> float:
        apart = cdist(x.astype(float), y.astype(float))
        return apart[linear_sum_assignment(apart)].mean()

    exact, usual = timed(lambda: [assigned(x, y) for x, y in zip(a, b, strict=True)])
    found = np.array([one.distance for one in ours])
    return {
        "points": points,
        "pairs": pairs,
        "ms_per_pair": 1e3 * seconds / pairs,
        "exact_ms_per_pair": 1e3 * usual / pairs,
        "ratio": usual / seconds,
        "largest_error": float((found / exact - 1).max()),
        "stated_bound": GAP,
        "largest_gap_found": float(max(1 - one.bound / one.distance for one in ours)),
    }


def processor() -> str:
    """Its name."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))


def main() -> None:
    """Command line of the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--clouds", type=int, default=100, help="of each set")
    parser.add_argument("--points", type=int, default=2048)
    parser.add_argument("--usual", type=int, default=4, help="samples timed by the usual way")
    parser.add_argument("--pairs", type=int, default=8, help="of Earth Mover's distances")
    parser.add_argument("--note", default="", help="of the machine, kept with the figures")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(threads())
    found = {"processor": processor(), "threads": threads(), "load": os.getloadavg()[0]}
    found |= {"note": args.note}
    found["chamfer"] = of_chamfer(args.clouds, args.points, args.usual)
    found["emd"] = [of_emd(points, args.pairs) for points in (256, 512, 1024, args.points)]
    print(json.dumps(found, indent=2))  # noqa: T201
    if args.out:
        write_json(args.out, found)


if __name__ == "__main__":
    main()
