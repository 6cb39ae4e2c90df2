"""How the requests of one batch become the inputs of one run.

By default their rows are concatenated. A backend that keeps memory for its inputs has them written there directly,
which saves the second copy, and lends that memory for the length of the run.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext

import numpy as np

from gateway.backends.signature import Feeds

Join = Callable[[Sequence[Feeds]], AbstractContextManager[Feeds]]


def concatenated(parts: Sequence[Feeds]) -> AbstractContextManager[Feeds]:
    """New arrays with the rows of all parts, which have the same names, in their order."""
    return nullcontext({name: np.concatenate([part[name] for part in parts]) for name in parts[0]})
