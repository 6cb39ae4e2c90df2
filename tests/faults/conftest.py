"""Tests that CI cannot run: there, a skip is a failure."""

import os

collect_ignore = ["test_frozen_disk.py"] if os.environ.get("CI") else []
