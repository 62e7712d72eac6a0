"""Every error that rigbench raises on purpose, and its exit code.

    RigbenchError
    |- InputError            2   the user's input: unknown key, missing file, impossible value
    |- UnavailableError      3   the engine or the machine cannot
    |- RegressionFound       4   a comparison found what it was told to fail on
    `- ValidationFailed      5   a document does not hold

The message says what is wrong, where (file, key), and what to do. A failed case is no exception: it is a row in the
result with a `Failure`, and never ends the run.
"""

from __future__ import annotations


class RigbenchError(Exception):
    """Base of the tree; `exit_code` is what the command line returns."""

    exit_code = 1


class InputError(RigbenchError):
    """What the user gave cannot be used."""

    exit_code = 2


class UnavailableError(RigbenchError):
    """The engine, the device or the machine cannot do it."""

    exit_code = 3


class RegressionFound(RigbenchError):
    """A comparison found what `--fail-on` names."""

    exit_code = 4


class ValidationFailed(RigbenchError):
    """A result document does not hold."""

    exit_code = 5
