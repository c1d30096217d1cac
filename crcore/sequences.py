"""Which exposures in a folder belong together: three in a row of one scheduling molecule (appendix A)."""

from crcore.frame import BROKEN_FITS, find_fits, open_fits

__all__ = ["find_sequences"]


def find_sequences(folder, *, min_exposure_s=100.0):
    """Group the exposures below a folder as the paper does.

    One sequence is three consecutive exposures of one camera, filter, exposure time
    (to 5 %) and scheduling molecule (``MOLUID``, in the order of ``MOLFRNUM``); a
    molecule of more is cut into threes. Frames without ``MOLUID``, second copies of an
    exposure and products of this package are left out. The paper's further rules
    (4 to 12 visits, unstable sky, trails) are not applied.

    Parameters
    ----------
    folder : path-like
        Searched with all folders in it.
    min_exposure_s : float, optional
        Shorter exposures are left out (100 s in the paper).

    Returns
    -------
    sequences : list of list of pathlib.Path
        Three paths each.
    rejected : list of tuple (pathlib.Path, str)
        What was left out, and why.
    """
    groups, rejected = {}, []
    for path in find_fits(folder):
        try:
            header = _quick_header(path)
        except BROKEN_FITS as error:
            rejected.append((path, f"cannot be read ({error})"))
            continue
        wrong = [k for k in ("EXPTIME", "MOLFRNUM") if not isinstance(header.get(k), int | float)]
        if "MOLUID" not in header or wrong:
            missing = ["MOLUID"] if "MOLUID" not in header else []
            rejected.append((path, f"has no usable {' and '.join(missing + wrong)}"))
        elif header["EXPTIME"] < min_exposure_s:
            rejected.append((path, f"exposed {header['EXPTIME']:.0f} s, less than {min_exposure_s:.0f} s"))
        else:
            key = (str(header.get("INSTRUME")), str(header.get("FILTER")), str(header["MOLUID"]))
            members = groups.setdefault(key, {})
            if header["MOLFRNUM"] in members:
                rejected.append((path, f"is the same exposure as {members[header['MOLFRNUM']][1].name}"))
            else:
                members[header["MOLFRNUM"]] = (float(header["EXPTIME"]), path)
    sequences = []
    for _, members in sorted(groups.items()):
        for run in _consecutive(sorted(members)):
            for start in range(0, len(run), 3):
                three = [members[number] for number in run[start : start + 3]]
                times = [exposure for exposure, _ in three]
                if len(three) < 3:
                    reason = f"one of {len(three)} consecutive exposures left of its molecule: three are needed"
                    rejected += [(path, reason) for _, path in three]
                elif max(times) > 1.05 * min(times):
                    rejected += [(path, "exposure times in its molecule differ") for _, path in three]
                else:
                    sequences.append([path for _, path in three])
    return sequences, rejected


def _consecutive(numbers):
    """Cut increasing numbers where one is missing."""
    runs = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return runs


def _quick_header(path):
    with open_fits(path) as hdus:
        names = {hdu.name for hdu in hdus}
        if "CRMASK" in names or {"CR", "IGNORE"} <= names:
            raise ValueError("is a product of detection or labeling, not an exposure")
        for hdu in hdus:
            if "EXPTIME" in hdu.header:
                return hdu.header.copy()
    raise ValueError("no EXPTIME in any header")
