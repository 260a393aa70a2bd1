"""The page on this machine: a server of files that only this machine can reach."""

from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class Handler(SimpleHTTPRequestHandler):
    """Serves files with the types that browsers insist on, whatever the system has registered."""

    extensions_map = SimpleHTTPRequestHandler.extensions_map | {
        ".js": "text/javascript",
        ".mjs": "text/javascript",
        ".wasm": "application/wasm",
        ".onnx": "application/octet-stream",
    }

    def end_headers(self) -> None:
        self.send_header("Cache-Control", "no-cache")  # ask whether it changed, and keep it if not
        super().end_headers()

    def log_message(self, *args) -> None:
        """Silent: the terminal shows the address and nothing else."""


def server(folder: str | Path, port: int = 0) -> ThreadingHTTPServer:
    """A server of that folder on 127.0.0.1, not yet running. port 0: any free one.

    OSError where the port is taken.
    """
    try:
        return ThreadingHTTPServer(("127.0.0.1", port), partial(Handler, directory=str(folder)))
    except OSError as error:
        reason = f"port {port} is not free ({error.strerror}): choose another with --port"
        raise OSError(error.errno, reason) from error
