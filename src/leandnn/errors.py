"""The one exception that a user may see as a sentence."""

from __future__ import annotations


class LeandnnError(Exception):
    """Something outside the program is wrong (a file, a parameter, a machine).

    The message is one sentence with both values (what was found, what was expected) and, where there is
    one, the command that mends it. The command line prints it and exits with status 1.
    """
