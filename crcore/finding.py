"""Our side of one claim of the ledger."""

from dataclasses import dataclass

__all__ = ["Finding"]


@dataclass(frozen=True)
class Finding:
    """What we find of a published statement.

    Attributes
    ----------
    ours : str
        Our number, as it is printed.
    data : str
        On which data.
    verdict : str
        One of `crcore.claims.VERDICTS`.
    reason : str
        One sentence.
    interval : str
        95 % interval of ``ours`` by frame, where there is one.
    """

    ours: str
    data: str
    verdict: str
    reason: str
    interval: str = ""
