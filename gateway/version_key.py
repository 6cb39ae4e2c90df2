"""Identifies one version of one model; most tables have it as their key."""

VersionKey = tuple[str, int]  # the model's name and the version's number
