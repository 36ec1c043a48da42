"""What a value was measured by, beside its metric: how clouds are normalised, and which network."""

import numpy as np

COLUMNS = ("normalisation", "extractor")  # of metrics.csv


def in_class_frame(train: np.ndarray, *others: np.ndarray) -> list[np.ndarray]:
    """Clouds [n, P, 3] centred on the train clouds' mean, over their deviation (PointFlow).

    One mean [3] and one deviation for the whole class, so that size and place are compared too.
    """
    mean, deviation = train.mean(axis=(0, 1), dtype=float), train.std(dtype=float)
    return [((some - mean) / deviation).astype(np.float32) for some in (train, *others)]
