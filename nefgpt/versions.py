"""A number per stage: raise it when a change of code changes that stage's results.

The numbers are parameters of the rules, so raising one re-runs the stage and what follows;
editing a comment re-runs nothing.
"""

VERSIONS = {
    "procedural": 1,
    "sdf": 1,
    "images": 1,
    "inputs": 1,
    "template": 4,
    "fit": 4,
    "weights": 1,
    "tokens": 3,
    "gpt": 5,
    "sample": 2,
    "regression": 3,
    "extract": 3,
    "classifier": 2,
    "evaluate": 4,
    "present": 4,
}
