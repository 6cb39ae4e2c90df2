"""What an edit does besides what its difference shows."""

from gateway.settings.routing import ReleaseSettings


def weight_notes(model: str, release: ReleaseSettings, route: str) -> list[str]:
    """What a weight of its own for `route` ends, one sentence each; none if the route follows no ramp."""
    routes = release.split.routes if release.split else ()
    following = [one.name for one in routes if one.weight == "ramp"]
    if route not in following:
        return []
    following.remove(route)
    if following:
        return [f"route {route} leaves the ramp, which goes on for {', '.join(following)}"]
    return [
        f"this ends the ramp of {model}: no other route follows it, and its weight stays as set from now on;"
        f" `gateway hold {model}` holds a ramp at its weight, and `weight: ramp` in the file begins one again"
    ]
