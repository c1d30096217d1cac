"""Progress that a person can follow in a terminal, a log and an executed notebook."""

import time

__all__ = ["report"]


def report(items, what, *, every_s=5.0):
    """Iterate over items and print a line now and then: how many, and how long still.

    Parameters
    ----------
    items : sequence
        Things to work through.
    what : str
        What is done to them, as in "simulating".
    every_s : float, optional
        Least time between two lines.

    Yields
    ------
    object
        The items, in their order.
    """
    begun = said = time.monotonic()
    for done, item in enumerate(items):
        now = time.monotonic()
        if done and now - said >= every_s:
            print(f"  {what}: {done}/{len(items)}, {(now - begun) / done * (len(items) - done):.0f} s left", flush=True)
            said = now
        yield item
    print(f"  {what}: {len(items)}/{len(items)} in {time.monotonic() - begun:.0f} s", flush=True)
