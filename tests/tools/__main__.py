"""Make the environments of all tools, or of those named."""

import sys

from tests.tools import make, names

for name in sys.argv[1:] or names():
    print(name, flush=True)
    make(name)
