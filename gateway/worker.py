"""A worker: one event loop with its listening socket, its ONNX sessions and the data plane."""

import asyncio
import contextlib
import gc
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import uvicorn

from gateway.deployment import Deployment, Progress
from gateway.errors import SettingsError
from gateway.pipeline import Gateway
from gateway.serving.repository import Repository
from gateway.settings.gateway_settings import GatewaySettings, ServerSettings
from gateway.settings.routing_settings import RoutingSettings
from gateway.web.app import data_plane

Ready = Callable[[Deployment], None]
BACKLOG = 2048


def listen(server: ServerSettings) -> socket.socket:
    """A socket of this worker's own on the server's address; raises SettingsError where it cannot be had."""
    family = socket.AF_INET6 if ":" in server.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((server.host, server.port))
    except OSError as error:
        listener.close()
        reason = f"server: cannot listen on {server.host}:{server.port}: {error.strerror}; choose another host or port"
        raise SettingsError("gateway.yaml", [reason]) from None
    listener.set_inheritable(True)
    return listener


async def work(
    settings: GatewaySettings, routing: RoutingSettings, listener: socket.socket, progress: Progress, ready: Ready
) -> None:
    """Load the models, then serve until SIGTERM or SIGINT, then answer what has begun, for `server.drain` at most."""
    deployment = Deployment(Repository(Path(settings.models.path)), routing)
    await deployment.start(progress)
    gateway = Gateway(deployment, settings.limits)
    server = _Server(_configuration(gateway, settings.server))
    gateway.crowd = server.server_state.tasks.__len__
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, _drain, gateway, server)
    gc.collect()
    gc.freeze()  # what start-up made lives as long as the process: no collection need look at it again
    ready(deployment)
    await server.serve(sockets=[listener])
    await deployment.close()


def _drain(gateway: Gateway, server: uvicorn.Server) -> None:
    server.force_exit = server.should_exit  # asked a second time: do not wait for those in flight
    server.should_exit = True
    gateway.draining = True


def _configuration(gateway: Gateway, server: ServerSettings) -> uvicorn.Config:
    return uvicorn.Config(
        data_plane(gateway, server.max_body),
        http="httptools",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        backlog=BACKLOG,
        timeout_graceful_shutdown=max(1, round(server.drain)),
    )


class _Server(uvicorn.Server):
    """uvicorn's server without its signal handling, which would end the process by the signal once it had drained."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
