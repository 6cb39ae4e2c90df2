"""The sockets on the port of the data plane: one for each worker, and one with which control holds the port."""

import socket


def listener(host: str, port: int) -> socket.socket:
    """A new socket, bound and not yet listening, which shares the port with those of other processes."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    bound.bind((host, port))
    return bound
