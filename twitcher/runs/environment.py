"""The environment of a run: the variables that all runs share, and its own.

The shared ones are encoded only once: the start of a run has to encode only its own.
These override the shared ones.
"""

from __future__ import annotations

import ctypes
import os
from typing import Dict, List, Mapping, NamedTuple


class SharedVariables:
    """The variables that all runs share. They do not change."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        self.variables = dict(variables)
        self.encoded = (ctypes.c_char_p * len(variables))(*_encode(variables))


class Environment(NamedTuple):
    """The variables of one run: its `own`, which override the `shared` ones."""

    own: Dict[str, str]
    shared: SharedVariables

    @property
    def path(self) -> str:
        """The directories in which programs are searched for."""
        return self.own.get('PATH') or self.shared.variables.get('PATH') or os.defpath

    def variables(self) -> Dict[str, str]:
        """All of them, by name."""
        return {**self.shared.variables, **self.own}

    def vector(self) -> ctypes.Array[ctypes.c_char_p]:
        """The array that execve(2) takes. Valid as long as `shared` exists."""
        encoded = self.shared.encoded
        if not self.shared.variables.keys().isdisjoint(self.own):
            words = _encode(self.variables())
            return (ctypes.c_char_p * (len(words) + 1))(*words)
        vector = (ctypes.c_char_p * (len(encoded) + len(self.own) + 1))()
        ctypes.memmove(vector, encoded, ctypes.sizeof(encoded))
        for index, word in enumerate(_encode(self.own), len(encoded)):
            vector[index] = word
        return vector


def _encode(variables: Mapping[str, str]) -> List[bytes]:
    return [os.fsencode(f'{name}={value}') for name, value in variables.items()]
