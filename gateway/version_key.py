"""The name of one version of one model, the key of most tables."""

VersionKey = tuple[str, int]  # the model's name and the version's number
