"""Where the paper's data are, and how to get them: ``crcore fetch lco-cr | lco-archive | hst | gemini``.

Queries go to the archives by the libraries made for them (``pooch`` for Zenodo, ``astroquery`` for MAST and Gemini) or,
for LCO, by its public interface; files come by `crcore.transfer`. Nothing here asks for, or keeps, a password.
"""

import itertools
import warnings
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlencode, urlsplit

from crcore.dataset import sha256
from crcore.errors import InputError
from crcore.optional import need
from crcore.transfer import Item, Source, fetch_items, unpack

__all__ = ["SETS", "Report", "fetch_set", "find_gemini", "find_hst", "find_lco_archive", "find_lco_cr", "pick_runs"]

ZENODO_DOI = "10.5281/zenodo.5034763"
LCO_API = "https://archive-api.lco.global/frames/"
#: assumed, for the minutes that are shown before anything starts
MBYTE_PER_S = 10.0
_ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz")

SETS = {
    "lco-cr": Source(
        "lco-cr",
        f"https://doi.org/{ZENODO_DOI}",
        "Creative Commons Attribution 4.0 (as the record says)",
        "Xu, C. et al., LCO CR dataset, doi:10.5281/zenodo.5034763",
    ),
    "lco-archive": Source(
        "lco-archive",
        "https://archive.lco.global",
        "public frames of the LCO science archive; acknowledge Las Cumbres Observatory",
        "Brown, T. M. et al. 2013, doi:10.1086/673168",
    ),
    "hst": Source(
        "hst",
        "https://mast.stsci.edu",
        "public data of the MAST archive; acknowledge NASA, ESA and STScI",
        "Observations with the NASA/ESA Hubble Space Telescope, MAST, STScI",
    ),
    "gemini": Source(
        "gemini",
        "https://archive.gemini.edu",
        "public data of the Gemini Observatory Archive; acknowledge the Gemini Observatory",
        "Gemini Observatory Archive at NSF NOIRLab; Hirst & Cardenes 2017",
    ),
}


@dataclass(frozen=True)
class Report:
    """What became of a call.

    Attributes
    ----------
    items : list of crcore.transfer.Item
        What was wanted.
    fetched, kept : list of pathlib.Path
        Files that came, and that were there.
    failed : list of tuple of str
    """

    items: list
    fetched: list
    kept: list
    failed: list


def fetch_set(name, query=(), folder=None, *, limit=0, subset="", dry_run=False, say=print, progress=None, **options):
    """Find what a set holds, say what it will cost, and fetch what is missing.

    Parameters
    ----------
    name : {"lco-cr", "lco-archive", "hst", "gemini"}
    query : sequence of str
        ``key=value``, in the archive's own words; for the archives only.
    folder : path-like, optional
        ``data/sets/<name>`` by default.
    limit : int, optional
        At most so many files (for ``lco-archive``: runs of three and more visits); 0 for all.
    subset : {"", "test", "0m4", "1m0", "2m0"}, optional
        Of ``lco-cr``.
    dry_run : bool, optional
        Only say it.
    say, progress, **options
        See `crcore.transfer.fetch_items`.

    Returns
    -------
    Report

    Raises
    ------
    InputError
        For an unknown set or query, a package that is missing, an archive that does not answer, a full disk.
    """
    if name not in SETS:
        raise InputError(f"set {name!r} is unknown: use one of {', '.join(SETS)}")
    folder = Path("data") / "sets" / name if folder is None else Path(folder)
    words = _words(query)
    if name == "lco-cr":
        if words:
            raise InputError("lco-cr takes no query: use --subset test, 0m4, 1m0 or 2m0")
        items = find_lco_cr(subset)
    else:
        if subset:
            raise InputError(f"{name}: --subset is for lco-cr: use a query")
        items = find_gemini(words) if name == "gemini" else _BY_LIMIT[name](words, limit)
    if limit and name != "lco-archive":
        items = items[:limit]
    if not items:
        raise InputError(f"{name}: the archive has nothing for {' '.join(query) or 'this query'}: ask for more")
    known = sum(item.size or 0 for item in items)
    unknown = sum(item.size is None for item in items)
    size = f"{known / 1e9:.2f} GB" + (f" and {unknown} files of unknown size" if unknown else "")
    say(f"{name}: {len(items)} files, {size}, about {known / 6e7 / MBYTE_PER_S:.0f} minutes at {MBYTE_PER_S:g} MB/s")
    say(f"to {folder}; {SETS[name].terms}; cite {SETS[name].citation}")
    if dry_run:
        for item in items[:20]:
            say(f"  {item.path}" + (f"  {item.size / 1e6:.1f} MB" if item.size else ""))
        if len(items) > 20:
            say(f"  and {len(items) - 20} more")
        return Report(items, [], [], [])
    fetched, kept, failed = fetch_items(items, folder, SETS[name], say=say, progress=progress, **options)
    for path in [*fetched, *kept]:
        done = path.with_name(f".{path.name}.unpacked")
        if path.name.endswith(_ARCHIVES) and not (done.exists() and done.read_text() == sha256(path)):
            say(f"{path.name}: {len(unpack(path, folder))} files unpacked")
            done.write_text(sha256(path))  # one that was stopped on the way is unpacked again
    return Report(items, fetched, kept, failed)


def _words(query):
    words = {}
    for word in query:
        key, equals, value = word.partition("=")
        if not (key and equals and value):
            raise InputError(f"query {word!r}: write it as key=value, as in FILTER=rp")
        words[key] = value
    return words


def _asked(what, function, *args, **options):
    """What a library answers; what goes wrong on the way is one line."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return function(*args, **options)
    except Exception as error:  # each library has its own kinds
        reason = " ".join(str(error).split())[:150] or type(error).__name__
        raise InputError(f"{what} does not answer ({type(error).__name__}: {reason}): try again later") from None


def find_lco_cr(subset=""):
    """Files of the published dataset, with sizes and checksums from its Zenodo record.

    Parameters
    ----------
    subset : {"", "test", "0m4", "1m0", "2m0"}
        Names that say so; archives that hold all are taken whole.
    """
    if subset not in ("", "test", "0m4", "1m0", "2m0"):
        raise InputError(f"subset {subset!r} is unknown: use test, 0m4, 1m0 or 2m0")
    downloaders = need("pooch.downloaders", "pooch", "fetch")
    repository = _asked("Zenodo", downloaders.doi_to_repository, ZENODO_DOI)
    files = _asked("Zenodo", lambda: repository.api_response["files"])
    files = list(files.values()) if isinstance(files, dict) else files
    items = []
    for entry in files:
        name = entry.get("key") or entry.get("filename")
        checksum = str(entry.get("checksum", ""))
        if checksum and ":" not in checksum:
            checksum = f"md5:{checksum}"
        url = _asked("Zenodo", repository.download_url, name)
        items.append(Item(url, name, entry.get("size") or entry.get("filesize"), checksum))
    wanted = {"test": ("test",)}.get(subset, (subset,) if subset else ())
    named = [item for item in items if any(w in item.path for w in wanted)]
    return sorted(named or items, key=lambda item: item.path)


def find_hst(query, limit=0):
    """ACS/WFC frames of MAST, calibrated for charge transfer (``flc``) or not (``flt``).

    Parameters
    ----------
    query : dict
        Criteria of `astroquery.mast.Observations.query_criteria`, such as ``filters=F606W target_name=NGC104``;
        ``product=flt`` for the other kind of file.
    limit : int, optional
        At most so many observations are looked into; 0 for all.
    """
    observations = need("astroquery.mast", "astroquery", "fetch").Observations
    query = dict(query)
    product = query.pop("product", "flc").upper()
    criteria = {"obs_collection": "HST", "instrument_name": "ACS/WFC", "dataRights": "PUBLIC"} | query
    found = _asked("MAST", observations.query_criteria, **criteria)
    if len(found) == 0:
        return []
    products = _asked("MAST", observations.get_product_list, found[: limit or None])
    items = {}
    for row in products:
        name = str(row["productFilename"])
        if str(row["productSubGroupDescription"]) == product:
            url = "https://mast.stsci.edu/api/v0.1/Download/file?uri=" + quote(str(row["dataURI"]), safe=":/")
            items[name] = Item(url, name, int(row["size"]) or None)
    return [items[name] for name in sorted(items)]


def find_gemini(query):
    """Frames of the Gemini archive.

    Parameters
    ----------
    query : dict
        Criteria of `astroquery.gemini.Observations.query_criteria`, such as ``instrument=GMOS-N``.
    """
    observations = need("astroquery.gemini", "astroquery", "fetch").Observations
    criteria = {"observation_class": "science", "observation_type": "OBJECT", "instrument": "GMOS-N"} | dict(query)
    found = _asked("Gemini's archive", observations.query_criteria, **criteria)
    items = []
    for row in found:
        name, columns, kind = str(row["filename"]), row.colnames, "file"
        if name.endswith(".bz2"):  # the archive hands it out unpacked under its plain name
            name, kind = name.removesuffix(".bz2"), "data"
        size = int(row[f"{kind}_size"]) if f"{kind}_size" in columns and row[f"{kind}_size"] else None
        checksum = f"md5:{row[f'{kind}_md5']}" if f"{kind}_md5" in columns and row[f"{kind}_md5"] else ""
        items.append(Item(f"https://archive.gemini.edu/file/{quote(name)}", name, size, checksum))
    return sorted(items, key=lambda item: item.path)


def find_lco_archive(query, limit=0, *, address=LCO_API, timeout_s=30.0):
    """Reduced public frames of LCO's archive, three to twelve visits of one block each, spread over classes and months.

    Section 2 and appendix A: exposures of 100 s or more, repeated at once. The frames' headers have the molecule; the
    archive's table the block, which is what runs are found by here. ``crcore label`` looks at the molecule again.

    Parameters
    ----------
    query : dict
        Parameters of the archive, such as ``start=2019-01-01 end=2019-12-31 TELID=1m0a``; at least a start.
    limit : int, optional
        At most so many runs; 0 for all.
    address : str, optional
    timeout_s : float, optional
    """
    requests = need("requests", "requests", "fetch")
    if "start" not in query:
        raise InputError("lco-archive: the archive is large: give start=YYYY-MM-DD and end=YYYY-MM-DD")
    given = {"OBSTYPE": "EXPOSE", "RLEVEL": "91", "public": "true", "limit": "1000"} | dict(query)
    url, host, rows = f"{address}?{urlencode(given)}", urlsplit(address).netloc, []
    for _ in range(1000):
        answer = _asked("LCO's archive", requests.get, url, timeout=timeout_s)
        if answer.status_code != 200:
            raise InputError(f"LCO's archive said {answer.status_code} to {url}: check the query")
        page = _asked("LCO's archive", answer.json)
        rows += page.get("results", [])
        url = page.get("next")
        if not url:
            break
        if urlsplit(url).netloc != host:
            raise InputError(f"LCO's archive points to another host ({urlsplit(url).netloc}): refused")
    return [_lco_item(row) for run in pick_runs(rows, limit) for row in run]


def _of(row, *names):
    return next((row[name] for name in names if row.get(name) not in (None, "")), None)


def _lco_item(row):
    version = (row.get("version_set") or [{}])[0]
    name = str(_of(row, "filename", "basename"))
    extension = str(version.get("extension", ".fits.fz"))
    if not name.endswith((".fits", ".fits.fz")):
        name += extension
    checksum = f"md5:{version['md5']}" if version.get("md5") else ""
    size = version.get("size") or row.get("size")
    folder = str(_of(row, "telescope_id", "TELID"))[:3]
    return Item(str(_of(row, "url") or version.get("url")), f"{folder}/{name}", int(size) if size else None, checksum)


def pick_runs(rows, limit=0, *, min_exposure_s=100.0):
    """Runs of three to twelve visits from rows of LCO's archive, taken in turn from classes and months.

    Parameters
    ----------
    rows : list of dict
    limit : int, optional
        At most so many runs.
    min_exposure_s : float, optional

    Returns
    -------
    list of list of dict
    """
    groups = {}
    for row in rows:
        seconds = float(_of(row, "exposure_time", "EXPTIME") or 0)
        if seconds < min_exposure_s:
            continue
        key = (
            _of(row, "observation_id", "BLKUID"), _of(row, "instrument_id", "INSTRUME"), round(seconds, 1),
            _of(row, "primary_optical_element", "FILTER"),
        )  # fmt: skip
        groups.setdefault(key, []).append(row)
    bins = {}
    for _, members in sorted(groups.items(), key=str):
        members.sort(key=lambda row: str(_of(row, "observation_date", "DATE_OBS")))
        for start in range(0, len(members), 12):
            run = members[start : start + 12]
            if len(run) >= 3:
                place = (
                    str(_of(run[0], "telescope_id", "TELID"))[:3],
                    str(_of(run[0], "observation_date", "DATE_OBS"))[:7],
                )
                bins.setdefault(place, []).append(run)
    turns = itertools.zip_longest(*(bins[place] for place in sorted(bins)))
    runs = [run for turn in turns for run in turn if run is not None]
    return runs[: limit or None]


#: archives that are asked for no more than is wanted
_BY_LIMIT = {"lco-archive": find_lco_archive, "hst": find_hst}
