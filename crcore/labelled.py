"""Labelled exposures of one field, and the codes of their ignore masks."""

import dataclasses
from dataclasses import dataclass, field

import numpy as np
from astropy.table import Table

from crcore.frame import Frame
from crcore.sources import median_frame, sky_level

__all__ = ["BORDER", "HOT_PIXEL", "NO_DATA", "SOURCE", "UNDECIDED", "Sequence"]

#: codes of the ignore mask, which add up (documentation of the LCO CR dataset)
BORDER, NO_DATA, SOURCE, HOT_PIXEL = 1, 2, 4, 8
#: and one of ours, where the truth is known: a ray's charge that is too faint to count, or lost to a source
UNDECIDED = 16


@dataclass(frozen=True)
class Sequence:
    """Aligned exposures of one field with their labels.

    Attributes
    ----------
    data : numpy.ndarray, shape (n, H, W), float32
        Exposures in electrons on the pixels of the first.
    cr : numpy.ndarray, shape (n, H, W), uint8
        1 where a cosmic ray is.
    ignore : numpy.ndarray, shape (n, H, W), uint8
        0 fine, else the sum of `BORDER`, `NO_DATA`, `SOURCE`, `HOT_PIXEL`, `UNDECIDED`.
    headers : tuple of astropy.io.fits.Header
        One a frame.
    names : tuple of str
        One a frame.
    catalog : astropy.table.Table
        Sources of the median frame.
    facts : dict
        What labeling measured: alignment, gains, exposures left out and why, pixels
        labelled and lost to sources (lists of one number a frame).
    truth : numpy.ndarray, shape (n, H, W), uint8, or None
        What is known to be there (bit 1 a ray, bit 2 undecided), for simulated
        exposures and where a reference exists. Labeling never looks at it.
    chance : numpy.ndarray, shape (n, H, W), uint8, or None
        How sure it is that a reference calls a pixel a ray, 255 for certain, where it is known
        (`crcore.simulate.known.label_by_truth`).
    """

    data: np.ndarray
    cr: np.ndarray
    ignore: np.ndarray
    headers: tuple
    names: tuple
    catalog: Table
    facts: dict = field(default_factory=dict)
    truth: np.ndarray | None = None
    chance: np.ndarray | None = None

    @property
    def simulated(self):
        """True when the exposures say that they are simulated."""
        return bool(self.headers[0].get("SIMULATE", False))

    @property
    def by_truth(self):
        """True when the labels are what is known, not what was found."""
        return self.headers[0].get("LABELS") == "truth"

    @property
    def median(self):
        """The cosmic-ray-free median frame with the sky subtracted, (H, W) float32."""
        return median_frame(self.data - sky_level(self.data)[:, None, None])

    def judged(self, i):
        """True where the label of exposure ``i`` counts; bool, (H, W). Sources do where the labels are the truth."""
        kept = SOURCE if self.by_truth else 0
        return (self.ignore[i] & ~np.uint8(kept)) == 0

    def frame(self, i):
        """Exposure ``i`` as a `crcore.frame.Frame`; bad where there is no data."""
        header = self.headers[i]
        return Frame(
            self.data[i],
            read_noise=header.get("RDNOISE"),
            saturation=header.get("SATURATE"),
            bad=(self.ignore[i] & NO_DATA) > 0,
            header=header,
            name=self.names[i],
        )

    def threes(self):
        """Cut into sequences of three exposures, as the dataset keeps them; one or two left over are dropped.

        Returns
        -------
        list of Sequence
        """
        parts = []
        for start in range(0, len(self.data) - 2, 3):
            part = slice(start, start + 3)
            facts = {k: v[part] if isinstance(v, list | tuple) else v for k, v in self.facts.items()}
            parts.append(
                dataclasses.replace(
                    self,
                    data=self.data[part],
                    cr=self.cr[part],
                    ignore=self.ignore[part],
                    headers=self.headers[part],
                    names=self.names[part],
                    facts=facts,
                    truth=None if self.truth is None else self.truth[part],
                    chance=None if self.chance is None else self.chance[part],
                )
            )
        return parts
