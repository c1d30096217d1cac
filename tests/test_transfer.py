"""Transfers from a server that misbehaves in every way that archives do."""

import hashlib
import io
import tarfile
import threading
import time
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from crcore.errors import InputError
from crcore.results import read_rows
from crcore.transfer import Item, Source, fetch_items, inside, unpack

SOURCE = Source("test", "http://localhost", "free", "nobody 2026")
QUICK = {"pause_s": 0.0, "backoff_s": 0.01, "timeout_s": 0.5, "say": lambda line: None}


def content(k):
    return hashlib.sha256(str(k).encode()).digest() * (20 + k % 300)


class Naughty(BaseHTTPRequestHandler):
    """``/<trouble>/<k>``: file k, after the trouble."""

    protocol_version = "HTTP/1.0"
    seen, starts, lock = {}, [], threading.Lock()

    def log_message(self, *_):
        pass

    def do_GET(self):
        _, trouble, number = self.path.split("/")
        with self.lock:
            times = self.seen[self.path] = self.seen.get(self.path, 0) + 1
            self.starts.append(time.monotonic())
        body, first = content(int(number)), times == 1
        if trouble == "gone":
            return self.send_error(404)
        if trouble == "redirects":
            self.send_response(302)
            self.send_header("Location", f"/good/{number}")
            return self.end_headers()
        if trouble == "limits" and first:
            self.send_response(429)
            self.send_header("Retry-After", "0.2")
            return self.end_headers()
        if trouble == "dies" and times <= 2:
            return self.send_error(503)
        if trouble == "wrong" or (trouble == "wrong-once" and first):
            body = b"x" * len(body)
        start = 0
        if self.headers.get("Range") and trouble != "no-range":
            start = int(self.headers["Range"].split("=")[1].rstrip("-"))
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        if trouble == "stalls" and first:
            self.wfile.write(body[start : start + 100])
            self.wfile.flush()
            return time.sleep(1.5)
        if trouble in ("truncates", "no-range") and times <= 2:
            return self.wfile.write(body[start : start + (len(body) - start) // 2])
        if trouble == "always-truncates":
            return self.wfile.write(body[start : start + 10])
        return self.wfile.write(body[start:])


@pytest.fixture
def server():
    Naughty.seen, Naughty.starts = {}, []
    served = ThreadingHTTPServer(("127.0.0.1", 0), Naughty)
    thread = threading.Thread(target=served.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{served.server_port}"
    served.shutdown()
    served.server_close()


def item(server, trouble, k, *, known=True):
    body = content(k)
    checksum = f"sha256:{hashlib.sha256(body).hexdigest()}" if known else ""
    return Item(f"{server}/{trouble}/{k}", f"sub/{trouble}-{k}.fits", len(body) if known else None, checksum)


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("trouble", ["good", "truncates", "no-range", "stalls", "redirects", "limits", "dies"])
def test_a_file_arrives_whole_through_every_trouble(server, tmp_path, trouble, known):
    fetched, kept, failed = fetch_items([item(server, trouble, 7, known=known)], tmp_path, SOURCE, **QUICK)
    assert (len(fetched), kept, failed) == (1, [], [])
    assert fetched[0].read_bytes() == content(7)
    assert not list(tmp_path.rglob("*.part"))
    row = read_rows(tmp_path / "manifest.csv")[0]
    assert row["sha256"] == hashlib.sha256(content(7)).hexdigest()
    assert (row["terms"], row["citation"], row["set"]) == ("free", "nobody 2026", "test")


def test_two_hundred_files_arrive_or_are_named_and_a_second_call_fetches_only_what_is_missing(server, tmp_path):
    troubles = (
        "good",
        "truncates",
        "redirects",
        "limits",
        "dies",
        "wrong-once",
        "gone",
        "wrong",
        "always-truncates",
        "good",
    )
    items = [item(server, troubles[k % 10], k) for k in range(200)]
    lines = []
    fetched, _, failed = fetch_items(items, tmp_path, SOURCE, **QUICK | {"say": lines.append, "retries": 4}, workers=8)
    assert len(fetched) == 140
    assert len(failed) == len(lines) == 60
    assert {path.split("/")[1].rsplit("-", 1)[0] for path, _ in failed} == {"gone", "wrong", "always-truncates"}
    for path in fetched:
        assert path.read_bytes() == content(int(path.stem.rsplit("-", 1)[1]))
    under = {p for p in tmp_path.rglob("*") if p.is_file() and p.suffix == ".fits"}
    assert under == set(fetched)  # nothing partial stands under a final name
    asked = dict(Naughty.seen)
    again, kept, _ = fetch_items(items, tmp_path, SOURCE, **QUICK | {"retries": 0}, workers=8)
    assert (again, len(kept)) == ([], 140)
    assert all(Naughty.seen[p] == asked[p] for p in asked if "/good/" in p or "/dies/" in p)


def test_a_damaged_file_is_fetched_again(server, tmp_path):
    wanted = item(server, "good", 3, known=False)
    (path,), _, _ = fetch_items([wanted], tmp_path, SOURCE, **QUICK)
    path.write_bytes(b"damaged")
    fetched, kept, _ = fetch_items([wanted], tmp_path, SOURCE, **QUICK)
    assert (fetched, kept) == ([path], [])
    assert path.read_bytes() == content(3)


def test_a_begun_file_goes_on(server, tmp_path):
    wanted = item(server, "always-truncates", 5)
    fetch_items([wanted], tmp_path, SOURCE, **QUICK | {"retries": 1})
    (part,) = tmp_path.rglob("*.part")
    assert part.read_bytes() == content(5)[:20]  # ten bytes and ten more
    good = Item(wanted.url.replace("always-truncates", "good"), wanted.path, wanted.size, wanted.checksum)
    (path,), _, _ = fetch_items([good], tmp_path, SOURCE, **QUICK)
    assert path.read_bytes() == content(5)


def test_requests_are_spread(server, tmp_path):
    items = [item(server, "good", k) for k in range(6)]
    fetch_items(items, tmp_path, SOURCE, **QUICK | {"pause_s": 0.1}, workers=6)
    assert max(Naughty.starts) - min(Naughty.starts) > 0.45


def test_a_full_disk_is_told_before_anything_starts(server, tmp_path):
    huge = Item(f"{server}/good/1", "a.fits", size=10**18)
    with pytest.raises(InputError, match="are needed"):
        fetch_items([huge], tmp_path, SOURCE, **QUICK)
    assert not Naughty.seen


@pytest.mark.parametrize("name", ["/etc/x", "../x", "a/../../x", "C:/x", "..\\x", "", "link/x"])
def test_nothing_is_written_outside(tmp_path, name):
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "link").symlink_to(tmp_path)
    with pytest.raises(InputError, match="refused"):
        inside(folder, name)


def test_an_address_that_is_no_http_is_refused(tmp_path):
    (tmp_path / "secret").write_text("x")
    wanted = Item(f"file://{tmp_path}/secret", "a")
    assert "no http address" in fetch_items([wanted], tmp_path / "out", SOURCE, **QUICK)[2][0][1]


def tar(path, *members):
    with tarfile.open(path, "w:gz") as packed:
        for name, kind in members:
            info = tarfile.TarInfo(name)
            info.size = 3 if kind == "file" else 0
            info.type = {"file": tarfile.REGTYPE, "link": tarfile.SYMTYPE, "hard": tarfile.LNKTYPE}[kind]
            info.linkname = "/etc/passwd"
            packed.addfile(info, io.BytesIO(b"abc") if kind == "file" else None)


def test_archives_are_unpacked(tmp_path):
    tar(tmp_path / "a.tar.gz", ("train_set/a.fits", "file"), ("b.fits", "file"))
    assert [p.read_bytes() for p in unpack(tmp_path / "a.tar.gz", tmp_path / "out")] == [b"abc"] * 2
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as packed:
        packed.writestr("c/d.fits", b"abc")
    assert unpack(tmp_path / "a.zip", tmp_path / "out") == [tmp_path / "out" / "c" / "d.fits"]


@pytest.mark.parametrize("bad", [("../x", "file"), ("/abs", "file"), ("l", "link"), ("h", "hard")])
def test_members_that_lead_out_are_refused_and_nothing_is_unpacked(tmp_path, bad):
    tar(tmp_path / "a.tar.gz", ("good.fits", "file"), bad)
    with pytest.raises(InputError, match="refused"):
        unpack(tmp_path / "a.tar.gz", tmp_path / "out")
    assert not list(tmp_path.glob("out/**/*"))
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as packed:
        packed.writestr("good", b"abc")
        packed.writestr("../x", b"abc")
    with pytest.raises(InputError, match="refused"):
        unpack(tmp_path / "a.zip", tmp_path / "out")


def test_what_is_no_archive_is_explained(tmp_path):
    (tmp_path / "a.tar.gz").write_bytes(b"no archive")
    with pytest.raises(InputError, match="no whole archive"):
        unpack(tmp_path / "a.tar.gz", tmp_path)


def test_a_file_that_nothing_tells_by_is_begun_anew(server, tmp_path):
    unknown = item(server, "good", 4, known=False)
    part = tmp_path / "sub" / f".{unknown.path.split('/')[1]}.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(b"of another version")
    (path,), _, _ = fetch_items([unknown], tmp_path, SOURCE, **QUICK)
    assert path.read_bytes() == content(4)


def test_a_call_that_is_stopped_starts_no_other_file_and_keeps_its_manifest(server, tmp_path):
    def stop(line):
        raise KeyboardInterrupt

    items = [item(server, "good", 1), item(server, "gone", 2), *(item(server, "good", k) for k in range(3, 60))]
    with pytest.raises(KeyboardInterrupt):
        fetch_items(items, tmp_path, SOURCE, **QUICK | {"say": stop, "pause_s": 0.02}, workers=1)
    assert len(Naughty.seen) < 40
    assert len(read_rows(tmp_path / "manifest.csv")) >= 1


def test_a_damaged_archive_is_explained(tmp_path):
    tar(tmp_path / "a.tar.gz", *((f"f{k}", "file") for k in range(200)))
    raw = bytearray((tmp_path / "a.tar.gz").read_bytes())
    raw[len(raw) // 2 : len(raw) // 2 + 20] = bytes(20)
    (tmp_path / "a.tar.gz").write_bytes(raw)
    with pytest.raises(InputError, match="no whole archive"):
        unpack(tmp_path / "a.tar.gz", tmp_path / "out")
