"""Errors that a user can mend. They are raised where they are found and turned into text once,
at the edge: the command line prints the sentence and exits with 2, a node reports it."""


class SalusError(Exception):
    """One sentence: what was given, what was expected, what to do."""
