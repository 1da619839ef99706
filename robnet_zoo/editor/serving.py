"""A server on the loopback interface, for as long as the command runs."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable

import uvicorn

from robnet_zoo.editor.app import create_app
from robnet_zoo.editor.attacker import Attacker
from robnet_zoo.editor.desk import Desk
from robnet_zoo.errors import EditorError

LOOPBACK = "127.0.0.1"
PATIENCE = 5  # seconds for what is being answered when the server ends
HTTP = 80  # the port that an address need not name
PORT = 8421  # the usual one, so that a page finds a server that was started again


def listen(port: int | None = None) -> socket.socket:
    """Return a socket that listens on the loopback interface alone.

    port: by default PORT, or a free one if that is taken. Raises EditorError if the port that is asked for is taken.
    """
    if port is not None and not 0 <= port < 2**16:
        raise EditorError(f"--port: expected a number from 0 to {2**16 - 1}, got {port}")
    try:
        return socket.create_server((LOOPBACK, PORT if port is None else port))
    except OSError as error:
        if port is None and error.errno in (errno.EADDRINUSE, errno.EACCES):
            return socket.create_server((LOOPBACK, 0))
        raise EditorError(f"--port: expected a free port, got {port}: {error.strerror}") from error


class EditorServer(uvicorn.Server):
    """A server that stops its attacks before it ends.

    Args:
        config: of the server.
        attacker: which carries out attacks.
    """

    def __init__(self, config: uvicorn.Config, attacker: Attacker) -> None:
        super().__init__(config)
        self.attacker = attacker

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop all attacks, and wait for what is being answered."""
        self.attacker.stop()
        await super().shutdown(sockets)


def hosts_of(port: int) -> list[str]:
    """Return the values of the header Host that name this server; browsers leave out the port of http, 80."""
    names = (LOOPBACK, "localhost")
    return [*(f"{name}:{port}" for name in names), *(names if port == HTTP else ())]


def server_of(desk: Desk, listener: socket.socket) -> EditorServer:
    """Return the server of an editor behind a socket that listens; `run(sockets=[listener])` serves it."""
    port = listener.getsockname()[1]
    attacker = Attacker(desk)
    app = create_app(desk, attacker, hosts=hosts_of(port))
    config = uvicorn.Config(
        app, log_level="error", access_log=False, lifespan="off", ws="none", timeout_graceful_shutdown=PATIENCE
    )
    return EditorServer(config, attacker)


def serve(desk: Desk, *, port: int | None = None, ready: Callable[[str], None] = lambda address: None) -> None:
    """Serve an editor until it is interrupted.

    Args:
        desk: what the editor is started with.
        port: see `listen`.
        ready: is called with the page's address once the server listens.

    Raises: EditorError if the port is taken.
    """
    with listen(port) as listener:
        server = server_of(desk, listener)
        ready(f"http://{LOOPBACK}:{listener.getsockname()[1]}/")
        server.run(sockets=[listener])
