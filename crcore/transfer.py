"""Fetch many files over a network that fails: whole or named, resumed, checked, polite, never outside of a folder."""

import gzip
import hashlib
import lzma
import math
import shutil
import tarfile
import threading
import time
import zipfile
import zlib
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from crcore import results
from crcore.errors import InputError
from crcore.optional import need

__all__ = ["Item", "Source", "fetch_items", "inside", "unpack"]

#: files at once, and seconds between the starts of two requests: what an archive does not notice
PARALLEL, PAUSE_S = 4, 0.1
RETRIES, BACKOFF_S, TIMEOUT_S = 5, 0.5, 30.0
_CHUNK = 1 << 18
#: what a server may say and mean "not now"
_LATER = {408, 425, 429, 500, 502, 503, 504}


@dataclass(frozen=True)
class Source:
    """Where a set comes from, as the manifest says it.

    Attributes
    ----------
    name, address, terms, citation : str
    """

    name: str
    address: str
    terms: str
    citation: str


@dataclass(frozen=True)
class Item:
    """One file to fetch.

    Attributes
    ----------
    url : str
        http or https.
    path : str
        Where it goes, relative to the folder.
    size : int or None
        Bytes, where they are known.
    checksum : str
        ``"sha256:..."`` or ``"md5:..."``; empty where it is not known: it is recorded on the first download.
    """

    url: str
    path: str
    size: int | None = None
    checksum: str = ""


class _Failed(Exception):  # noqa: N818
    """Why a file did not come; ``final`` where trying again will not help, ``wait`` what the server asked for."""

    def __init__(self, reason, *, final=False, wait=0.0):
        super().__init__(reason)
        self.final, self.wait = final, wait


def inside(folder, name):
    """The path of a file below a folder.

    Raises
    ------
    InputError
        For a name that leads out of it: absolute, with ``..``, with a drive, or through a link.
    """
    folder, pure = Path(folder), PurePosixPath(str(name).replace("\\", "/"))
    if not pure.parts or pure.is_absolute() or ".." in pure.parts or ":" in pure.parts[0]:
        raise InputError(f"{name!r}: leads out of {folder}: refused")
    path = folder.joinpath(*pure.parts)
    if not path.parent.resolve().is_relative_to(folder.resolve()):
        raise InputError(f"{name!r}: leads out of {folder} through a link: refused")
    return path


def fetch_items(items, folder, source, *, workers=PARALLEL, pause_s=PAUSE_S, retries=RETRIES, backoff_s=BACKOFF_S,
                timeout_s=TIMEOUT_S, progress=None, say=print):  # fmt: skip
    """Fetch files that are missing; each is whole and checked under its name, or not there at all.

    A file that is there and agrees with the manifest is not asked for again. One that was begun goes on where it
    stopped, in ``.part`` files that a later call takes up. ``manifest.csv`` accounts for all.

    Parameters
    ----------
    items : sequence of Item
    folder : path-like
    source : Source
    workers : int, optional
        Files at once.
    pause_s : float, optional
        Seconds between the starts of two requests.
    retries, backoff_s, timeout_s : optional
        How often a file is tried, seconds before the second try (doubled each time), and without an answer.
    progress : callable, optional
        ``progress(total=, unit=)`` makes a bar, as ``tqdm`` does; it counts files.
    say : callable, optional
        Told of each file that failed, in a line.

    Returns
    -------
    fetched, kept : list of pathlib.Path
    failed : list of tuple of str
        ``(path, reason)``.

    Raises
    ------
    InputError
        When the disk has less room than the files need, two files have one name, or ``requests`` is missing.
    """
    folder = Path(folder)
    places = {item.path: inside(folder, item.path) for item in items}
    if len(places) < len(items):
        raise InputError("two files have one name: nothing was fetched")
    manifest = _read_manifest(folder)
    kept = [item for item in items if _is_there(item, places[item.path], manifest.get(item.path))]
    wanted = [item for item in items if item not in kept]
    folder.mkdir(parents=True, exist_ok=True)
    needed, free = sum(item.size or 0 for item in wanted), shutil.disk_usage(folder).free
    if needed > 0.95 * free:
        raise InputError(
            f"{folder}: {needed / 1e9:.1f} GB are needed, {free / 1e9:.1f} GB are free: make room or --limit"
        )
    for package in ("requests", "urllib3") if wanted else ():  # before any thread needs them
        need(package, package, "fetch")
    gate, fetched, failed = _Gate(pause_s), [], []
    bar = progress(total=len(wanted), unit="file") if progress and wanted else None
    lock = threading.Lock()

    def work(item):
        digest = _fetch(item, places[item.path], gate, retries, backoff_s, timeout_s)
        row = {"path": item.path, "url": item.url, "size": places[item.path].stat().st_size, "sha256": digest}
        row |= {k: v for k, v in asdict(source).items() if k != "name"} | {"set": source.name}
        with lock:
            manifest[item.path] = row | {"fetched": datetime.now(UTC).isoformat(timespec="seconds")}

    pool = ThreadPoolExecutor(max(1, min(workers, 8)))
    try:
        jobs = {pool.submit(work, item): item for item in wanted}
        for n, job in enumerate(as_completed(jobs), 1):
            item = jobs[job]
            try:
                job.result()
                fetched.append(places[item.path])
            except (_Failed, OSError, ValueError) as error:
                reason = " ".join(str(error).split())[:200] or type(error).__name__
                failed.append((item.path, reason))
                say(f"{item.path}: failed: {reason}")
            if bar is not None:
                bar.update(1)
            if n % 20 == 0:
                with lock:
                    _write_manifest(folder, manifest)
    finally:  # a call that is stopped starts no other file, and has written what it knows
        pool.shutdown(wait=True, cancel_futures=True)
        if bar is not None:
            bar.close()
        _write_manifest(folder, manifest)
    return fetched, [places[item.path] for item in kept], sorted(failed)


class _Gate:
    """Lets requests start one after the other with a pause between them, and all wait when a server asks for it."""

    def __init__(self, pause_s):
        self._pause, self._next, self._lock = pause_s, 0.0, threading.Lock()

    def __enter__(self):
        with self._lock:
            start = max(time.monotonic(), self._next)
            self._next = start + self._pause
        time.sleep(max(start - time.monotonic(), 0))

    def __exit__(self, *_):
        return False

    def hold(self, seconds):
        with self._lock:
            self._next = max(self._next, time.monotonic() + seconds)


def _fetch(item, target, gate, retries, backoff_s, timeout_s):
    """Bring one file; gives its SHA-256."""
    if urlsplit(item.url).scheme not in ("http", "https"):
        raise _Failed(f"{item.url}: is no http address", final=True)
    part = target.with_name(f".{target.name}.part")
    target.parent.mkdir(parents=True, exist_ok=True)
    for attempt in range(retries + 1):
        try:
            _stream(item, part, gate, timeout_s)
            _check(item, part)
            digest = _digest(part, "sha256")
            part.replace(target)
            part.with_suffix(".tag").unlink(missing_ok=True)
            return digest
        except _Failed as failure:
            if failure.final or attempt == retries:
                raise
            wait = max(failure.wait, backoff_s * 2**attempt)
            if failure.wait:
                gate.hold(failure.wait)
            time.sleep(min(wait, 60.0))
    raise AssertionError  # the last attempt raises


def _stream(item, part, gate, timeout_s):
    """Append to what is there of a file until the server has no more."""
    import requests
    import urllib3

    have, tag = part.stat().st_size if part.exists() else 0, part.with_suffix(".tag")
    validator = tag.read_text() if tag.exists() else ""
    if (item.size is not None and have > item.size) or not (item.checksum or validator):
        part.unlink(missing_ok=True)  # with nothing to tell it by, what is there may be of another version
        have = 0
    if item.size is not None and 0 < have == item.size:
        return
    headers = {"User-Agent": f"crcore/{results.version()}", "Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
        if validator:
            headers["If-Range"] = validator
    try:
        with gate, requests.get(item.url, stream=True, timeout=timeout_s, headers=headers) as answer:
            if answer.status_code == 416:  # nothing after what is there: whole, or another file by now
                part.unlink(missing_ok=True)
                raise _Failed("the server has another length: begun anew")
            if answer.status_code in _LATER:
                raise _Failed(f"the server said {answer.status_code}", wait=_seconds(answer.headers.get("Retry-After")))
            if answer.status_code >= 400:
                raise _Failed(f"the server said {answer.status_code}", final=True)
            begun = answer.status_code == 206 and answer.headers.get("Content-Range", "").startswith(f"bytes {have}-")
            strong = answer.headers.get("ETag", "")
            validator = strong if strong and not strong.startswith("W/") else answer.headers.get("Last-Modified", "")
            if validator:
                tag.write_text(validator)
            with part.open("ab" if begun else "wb") as stream:
                told = answer.headers.get("Content-Length")
                come = 0
                while chunk := answer.raw.read1(_CHUNK):  # what has come is kept, however little
                    come += len(chunk)
                    stream.write(chunk)
            if told is not None and come < int(told):
                raise _Failed(f"the connection ended after {come} of {told} bytes")
    except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
        raise _Failed(f"{type(error).__name__}") from None


def _seconds(text):
    """What ``Retry-After`` asks for, at most a minute."""
    try:
        value = float(text)
    except (TypeError, ValueError):
        return 0.0
    return min(max(value, 0.0), 60.0) if math.isfinite(value) else 0.0


def _check(item, part):
    """Refuse a file that is not what was promised; what is there of it goes."""
    size = part.stat().st_size
    if item.size is not None and size != item.size:
        if size > item.size:
            part.unlink()
        raise _Failed(f"{size} bytes came, {item.size} were promised")
    if item.checksum:
        kind, _, wanted = item.checksum.partition(":")
        if _digest(part, kind) != wanted.lower():
            part.unlink()
            raise _Failed(f"its {kind} is not the one that was promised")


def _digest(path, kind):
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, kind).hexdigest()


def _is_there(item, path, row):
    """True for a file that is what the manifest, or the item, says."""
    if not path.is_file():
        return False
    if item.checksum:
        kind, _, wanted = item.checksum.partition(":")
        return _digest(path, kind) == wanted.lower()
    if row:
        return path.stat().st_size == int(row["size"]) and _digest(path, "sha256") == row["sha256"]
    return item.size is not None and path.stat().st_size == item.size


def _read_manifest(folder):
    path = Path(folder) / "manifest.csv"
    return {str(row["path"]): row for row in results.read_rows(path)} if path.exists() else {}


def _write_manifest(folder, manifest):
    if manifest:
        results.write_rows(Path(folder) / "manifest.csv", [manifest[path] for path in sorted(manifest)])


def unpack(archive, folder):
    """Unpack a tar or zip archive below a folder; each file whole or not at all.

    Parameters
    ----------
    archive, folder : path-like

    Returns
    -------
    list of pathlib.Path

    Raises
    ------
    InputError
        For a member that is a link or a device, or whose name leads out of the folder: nothing is unpacked then.
        For a file that is no archive.
    """
    archive, folder, written = Path(archive), Path(folder), []
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as packed:
                members = [m for m in packed.infolist() if not m.is_dir()]
                for member in members:
                    if (member.external_attr >> 16) & 0o170000 == 0o120000:
                        raise InputError(f"{archive.name}: {member.filename!r} is a link: refused")
                places = [(inside(folder, m.filename), m) for m in members]
                for path, member in places:
                    written.append(_copy(lambda m=member: packed.open(m), path))
            return written
        if archive.name.endswith("gz"):  # to its end, where its checksum is
            with gzip.open(archive) as stream:
                while stream.read(_CHUNK):
                    pass
        with tarfile.open(archive) as packed:
            members = [m for m in packed.getmembers() if not m.isdir()]
            for member in members:
                if not member.isreg():
                    raise InputError(f"{archive.name}: {member.name!r} is no plain file: refused")
            places = [(inside(folder, m.name), m) for m in members]
            for path, member in places:
                written.append(_copy(lambda m=member: packed.extractfile(m), path))
        return written
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile) as error:
        raise InputError(f"{archive}: is no whole archive ({error}): fetch it again") from None


def _copy(opened, path):
    with results.atomic(path) as part, opened() as stream, part.open("wb") as out:
        shutil.copyfileobj(stream, out)
    return path
