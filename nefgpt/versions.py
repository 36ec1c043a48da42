"""A number per stage: raise it when a change of code changes that stage's results.

The numbers are parameters of the rules, so raising one re-runs the stage and what follows;
editing a comment re-runs nothing.
"""

VERSIONS = {
    "procedural": 1,
    "sdf": 1,
    "images": 1,
    "inputs": 1,
    "template": 1,
    "fit": 2,
    "weights": 1,
    "tokens": 1,
    "gpt": 2,
    "sample": 1,
    "regression": 1,
    "extract": 1,
    "classifier": 1,
    "evaluate": 1,
    "present": 1,
}
