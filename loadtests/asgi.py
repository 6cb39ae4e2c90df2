"""Serves an ASGI application the way the reference servers do: uvicorn at its fastest."""

from typing import Any

import uvicorn


def serve(application: Any, port: int) -> None:
    """Serve on this port of the loopback interface until the process is ended."""
    uvicorn.run(
        application,
        port=port,
        http="httptools",
        loop="uvloop",
        access_log=False,
        log_level="warning",
        server_header=False,
        date_header=False,
    )
