"""How much memory a process takes."""

from pathlib import Path


def proportional_mb(pid: int) -> float:
    """Proportional set size in MB: what n processes share counts as one n-th for each."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) * 1024 / 1e6
