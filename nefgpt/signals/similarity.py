"""How alike two images are: peak signal-to-noise ratio and structural similarity."""

import numpy as np

_PSNR_LIMIT = 100.0  # dB; an exact copy would be infinite
_WINDOW = 7  # pixels; the default of scikit-image


def psnr(image: np.ndarray, truth: np.ndarray) -> float:
    """Peak signal-to-noise ratio in dB of values in [0, 1], at most 100."""
    error = float(np.square(image - truth).mean())
    return min(_PSNR_LIMIT, -10 * np.log10(error)) if error else _PSNR_LIMIT


def ssim_matrix(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Structural similarity of all pairs, float64 [n, m].

    Wang et al. (2004) with uniform windows of 7 pixels (of the image's size where it is smaller),
    sample covariance, K1 = 0.01, K2 = 0.03, data range 1, averaged over all windows inside the
    image, as scikit-image computes it; of several channels the mean of each one's. One matrix
    product per window compares all pairs.

    Parameters
    ----------
    a, b : float32 [n, H, W(, C)] and [m, H, W(, C)].
    """
    if a.ndim == 4:
        channels = range(a.shape[3])
        return np.mean([ssim_matrix(a[..., c], b[..., c]) for c in channels], axis=0)
    height, width = a.shape[1:]
    rows, columns = min(_WINDOW, height), min(_WINDOW, width)
    n_pixels = rows * columns
    c1, c2 = 0.01**2, 0.03**2
    sample = n_pixels / max(n_pixels - 1, 1)
    total = np.zeros((len(a), len(b)))

    def patches(images: np.ndarray, y: int, x: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        patch = images[:, y : y + rows, x : x + columns].reshape(len(images), -1).astype(np.float64)
        mean = patch.mean(axis=1)
        centred = patch - mean[:, None]
        return centred, mean, sample * np.square(centred).mean(axis=1)

    n_windows = 0
    for y in range(height - rows + 1):
        for x in range(width - columns + 1):
            centred_a, mean_a, variance_a = patches(a, y, x)
            centred_b, mean_b, variance_b = patches(b, y, x)
            covariance = sample * (centred_a @ centred_b.T) / n_pixels
            means = np.outer(mean_a, mean_b)
            squares = np.square(mean_a)[:, None] + np.square(mean_b)
            variances = variance_a[:, None] + variance_b
            total += ((2 * means + c1) * (2 * covariance + c2)) / (
                (squares + c1) * (variances + c2)
            )
            n_windows += 1
    return total / n_windows
