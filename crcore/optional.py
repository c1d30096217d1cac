"""Packages that are not needed by `crcore` itself, and may be missing."""

import importlib
import warnings

from crcore.errors import InputError

__all__ = ["available", "need"]


def need(module, package, extra):
    """Import a module of an optional package.

    Parameters
    ----------
    module, package : str
        What to import, and what people call it.
    extra : str
        The extra of ``pip install 'crcore[extra]'`` that brings it.

    Raises
    ------
    InputError
        With that command, where it cannot be imported.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return importlib.import_module(module)
    except ImportError as error:
        raise InputError(f"{package} is not installed ({error}): pip install 'crcore[{extra}]'") from None


def available(makers):
    """Make what can be made here.

    Parameters
    ----------
    makers : dict
        Name to a function without arguments.

    Returns
    -------
    made : dict
        Name to what the function gave.
    missing : dict
        Name to the reason, where it raised `InputError`.
    """
    made, missing = {}, {}
    for name, make in makers.items():
        try:
            made[name] = make()
        except InputError as error:
            missing[name] = str(error)
    return made, missing
