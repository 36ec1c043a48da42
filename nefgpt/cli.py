"""What the command lines of all stages share."""

import json
import logging
import sys
from collections.abc import Callable

from nefgpt.errors import InputError


def run(main: Callable[[], None]) -> None:
    """Run a stage's `main`; end with one clear message and status 1 on bad input."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        main()
    except InputError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("interrupted")


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
