"""The rows of a run's table: the ladder of bounds, then the generators.

The workflow asks for them whenever it builds its DAG, so imports stay light.
"""

GAUSSIAN = ("gaussian", "pca")
FIELDS, QUANTISED = "train-fields", "quantised-train-fields"
REAL = {"shapes": "train-meshes", "images": "train-images"}
# Names that no model can have.
RESERVED = (*REAL.values(), FIELDS, QUANTISED, GAUSSIAN[0])


def rows_of(kind: str, models: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Method and setting of every row, in the table's order; all but the first are of fields.

    Parameters
    ----------
    kind : of the signals, "shapes" or "images".
    models : model and setting of every row that a transformer has sampled.
    """
    ladder = [(row, "all") for row in (REAL[kind], FIELDS, QUANTISED)]
    return [*ladder, GAUSSIAN, *models]
