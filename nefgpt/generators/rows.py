"""The rows of a run's table: the ladder of bounds, then the generators.

The workflow asks for them whenever it builds its DAG, so imports stay light.
"""

GAUSSIAN = ("gaussian", "pca")
FIELDS, QUANTISED = "train-fields", "quantised-train-fields"
REAL = {"shapes": "train-meshes", "images": "train-images"}
# Names that no model can have.
RESERVED = (*REAL.values(), FIELDS, QUANTISED, GAUSSIAN[0])


def models_of(config: dict) -> list[tuple[str, str]]:
    """Model and setting of every row that a transformer has sampled."""
    return [(m, setting) for m in config["gpt"] for setting in config["sampling"]["settings"]]


def sampled_of(config: dict) -> list[tuple[str, str]]:
    """Rows that a generator has sampled, as the figures show them: the Gaussian last."""
    return [*models_of(config), GAUSSIAN]


def rows_of(config: dict, kind: str) -> list[tuple[str, str]]:
    """Method and setting of every row, in the table's order; all but the first are of fields.

    Parameters
    ----------
    kind : of the signals, "shapes" or "images".
    """
    ladder = [(row, "all") for row in (REAL[kind], FIELDS, QUANTISED)]
    return [*ladder, GAUSSIAN, *models_of(config)]
