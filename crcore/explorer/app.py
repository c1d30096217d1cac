"""The explorer in the browser, served by Voilà on this machine alone: ``crcore app``."""

import importlib.util
import os
import secrets
import socket
import threading
import webbrowser
from pathlib import Path

from crcore.errors import InputError

__all__ = ["arguments", "free_port", "serve"]

NOTEBOOK = Path(__file__).parent / "app.ipynb"
#: what one message of the page may hold: an upload of `crcore.explorer.controls.UPLOAD_LIMIT` and a little more
MESSAGE_BYTES = 450_000_000


def free_port():
    """A port of this machine that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def arguments(token, port):
    """Voilà's command line: this machine and this token only, no source shown, no tracebacks told to the page."""
    argv = [str(NOTEBOOK), "--Voila.ip=127.0.0.1", "--strip_sources=True", "--VoilaConfiguration.show_tracebacks=False"]
    return [*argv, "--no-browser", f"--Voila.token={token}", f"--port={port}"]


def serve(file=None, *, port=None, browser=True):
    """Serve the explorer until it is stopped.

    Parameters
    ----------
    file : path-like, optional
        Frame to open; others can be opened in the page.
    port : int, optional
        A free one by default.
    browser : bool, optional
        Open the page in the browser, else print its address only. The address has a token without which the page
        answers nobody: others on this machine, or a page of the web, could else open and write files through it.

    Raises
    ------
    InputError
        When Voilà is not installed, or the file is not there.
    """
    if importlib.util.find_spec("voila") is None or importlib.util.find_spec("ipyevents") is None:
        raise InputError("the explorer needs Voilà and ipyevents: pip install 'crcore[app]'")
    if port is not None and not 0 < port < 65536:
        raise InputError(f"port {port}: a number from 1 to 65535 is needed")
    os.environ["CRCORE_APP_FILE"] = ""
    if file is not None:
        file = Path(file).resolve()
        if not file.is_file():
            raise InputError(f"{file}: no such file: check the path")
        os.environ["CRCORE_APP_FILE"] = str(file)
    from voila.app import Voila

    port = port or free_port()
    token = os.environ.pop("CRCORE_APP_TOKEN", "") or secrets.token_urlsafe(24)
    os.environ["CRCORE_APP_CWD"] = str(Path.cwd())  # names typed in the page are meant from here
    address = f"http://127.0.0.1:{port}/?token={token}"
    print(f"crcore: {address}", flush=True)
    if browser:
        threading.Timer(2.0, webbrowser.open, [address]).start()
    limits = {"websocket_max_message_size": MESSAGE_BYTES}
    Voila.launch_instance(argv=arguments(token, port), tornado_settings=limits)
