"""What the command lines of all stages share."""

import json
import logging
import os
import sys
from collections.abc import Callable

from nefgpt.base.errors import InputError
from nefgpt.base.settings import T, from_dict


def run(main: Callable[[], None]) -> None:
    """Run a stage's `main`; end with one clear message and status 1 on bad input."""
    bound_threads()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        main()
    except InputError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("interrupted")


def bound_threads() -> None:
    """Hold libigl to a job's threads, before its first use: it alone does not ask OpenMP's bound.

    Snakemake sets that for every job, and BLAS, PyTorch, pyarrow and this package keep to it.
    """
    if bound := os.environ.get("OMP_NUM_THREADS"):
        os.environ.setdefault("IGL_NUM_THREADS", bound.split(",")[0].strip())


def json_argument(text: str) -> dict:
    """Parse a JSON object given on the command line, or after '@' the file that holds it."""
    try:
        if text.startswith("@"):
            with open(text[1:], encoding="utf-8") as stream:
                text = stream.read()
        value = json.loads(text)
    except (OSError, ValueError) as error:
        raise InputError(f"not a JSON object: {text!r} ({error})") from error
    if not isinstance(value, dict):
        raise InputError(f"expected a JSON object, got {text!r}")
    return value


def settings_argument(kind: type[T], text: str) -> T:
    """Settings from a JSON object given on the command line; see `json_argument`."""
    return from_dict(kind, json_argument(text))
