"""The explorer in the browser, served by Voilà on this machine alone: ``crcore app``."""

import importlib.util
import os
from pathlib import Path

from crcore.errors import InputError

__all__ = ["arguments", "serve"]

NOTEBOOK = Path(__file__).parent / "explorer.ipynb"
#: what one message of the page may hold: an upload of `crcore.explorer_widgets.UPLOAD_LIMIT` and a little more
MESSAGE_BYTES = 450_000_000


def arguments(*, port=None, browser=True):
    """Voilà's command line: this machine only, no source shown, no tracebacks told to the page."""
    argv = [str(NOTEBOOK), "--Voila.ip=127.0.0.1", "--strip_sources=True", "--VoilaConfiguration.show_tracebacks=False"]
    if port is not None:
        argv.append(f"--port={port}")
    return argv if browser else [*argv, "--no-browser"]


def serve(file=None, *, port=None, browser=True):
    """Serve the explorer until it is stopped.

    Parameters
    ----------
    file : path-like, optional
        Frame to open; others can be opened in the page.
    port : int, optional
        A free one by default.
    browser : bool, optional
        Open the page in the browser.

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

    limits = {"websocket_max_message_size": MESSAGE_BYTES}
    Voila.launch_instance(argv=arguments(port=port, browser=browser), tornado_settings=limits)
