"""A number per stage: raise it when a change of code changes that stage's results.

The numbers are parameters of the rules, so raising one re-runs the stage and what follows;
editing a comment re-runs nothing.
"""

VERSIONS = {
    "procedural": 1,
    "sdf": 1,
    "images": 1,
    "inputs": 1,
    "template": 3,
    "fit": 3,
    "weights": 1,
    "tokens": 2,
    "gpt": 5,
    "sample": 2,
    "regression": 3,
    "extract": 2,
    "classifier": 2,
    "evaluate": 3,
    "present": 3,
}
