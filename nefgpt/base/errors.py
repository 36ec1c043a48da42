"""The one exception that reaches users as a message instead of a traceback."""


class InputError(Exception):
    """Bad input: the message names the thing that is wrong and what to do about it."""
