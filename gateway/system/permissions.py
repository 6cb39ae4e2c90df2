"""What to do about a file that this process may not use."""

import errno
import os
from typing import Final

DENIED: Final = (errno.EACCES, errno.EPERM)


def owner_remedy(error: OSError, what: str = "it") -> str:
    """What to add to the error in a message: whose `what` must be, if that may be wrong; else an empty text."""
    return f"; {what} must belong to the gateway's user (uid {os.geteuid()})" if error.errno in DENIED else ""
