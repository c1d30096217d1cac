"""What the archives are asked, and what becomes of their answers; no network is needed."""

import hashlib
import json
import sys
import tarfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import ModuleType, SimpleNamespace
from typing import ClassVar
from urllib.parse import parse_qs, urlsplit

import pytest
from astropy.table import Table

from crcore import fetch
from crcore.cli import main
from crcore.errors import InputError


def frame(k, *, telescope="1m0a", block="b1", seconds=120.0, month="2019-03"):
    return {
        "id": k, "filename": f"f{k:03d}-e91.fits.fz", "url": f"http://nowhere/{k}", "exposure_time": seconds,
        "observation_id": block, "instrument_id": "fa16", "primary_optical_element": "rp", "telescope_id": telescope,
        "observation_date": f"{month}-01T00:{k % 60:02d}:00",
        "version_set": [{"md5": "0" * 32, "extension": ".fits.fz"}],
    }  # fmt: skip


class Archive(BaseHTTPRequestHandler):
    rows: ClassVar = []
    asked: ClassVar = []
    away = ""

    def log_message(self, *_):
        pass

    def do_GET(self):
        query = parse_qs(urlsplit(self.path).query)
        self.asked.append(query)
        offset = int(query.get("offset", ["0"])[0])
        here = f"http://{self.headers['Host']}/frames/?offset={offset + 2}"
        more = offset + 2 < len(self.rows)
        body = {"results": self.rows[offset : offset + 2], "next": (self.away or here) if more else None}
        text = json.dumps(body).encode()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(text)


@pytest.fixture
def archive():
    Archive.rows, Archive.asked, Archive.away = [], [], ""
    served = ThreadingHTTPServer(("127.0.0.1", 0), Archive)
    threading.Thread(target=served.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{served.server_port}/frames/"
    served.shutdown()
    served.server_close()


def test_lco_is_paged_and_runs_are_picked(archive):
    Archive.rows = [frame(k) for k in range(4)] + [frame(9, block="b2"), frame(10, block="b3", seconds=20.0)]
    items = fetch.find_lco_archive({"start": "2019-01-01", "TELID": "1m0a"}, address=archive)
    assert [item.path for item in items] == [f"1m0/f{k:03d}-e91.fits.fz" for k in range(4)]
    assert items[0].checksum == "md5:" + "0" * 32
    assert len(Archive.asked) == 3
    first = {key: values[0] for key, values in Archive.asked[0].items()}
    wanted = {"OBSTYPE": "EXPOSE", "RLEVEL": "91", "public": "true", "TELID": "1m0a", "start": "2019-01-01"}
    assert wanted.items() <= first.items()


def test_another_host_is_refused(archive):
    Archive.rows, Archive.away = [frame(k) for k in range(4)], "http://elsewhere.test/frames/?offset=2"
    with pytest.raises(InputError, match="another host"):
        fetch.find_lco_archive({"start": "2019-01-01"}, address=archive)


def test_a_query_without_a_start_is_refused():
    with pytest.raises(InputError, match="start"):
        fetch.find_lco_archive({})


def test_runs_come_in_turn_from_classes_and_months():
    rows = []
    for n, (telescope, month) in enumerate((t, m) for t in ("0m4a", "1m0a") for m in ("2019-01", "2019-07")):
        for block in range(3):
            rows += [
                frame(100 * n + 10 * block + k, telescope=telescope, month=month, block=f"{n}-{block}")
                for k in range(3)
            ]
    runs = fetch.pick_runs(rows, limit=4)
    assert {(run[0]["telescope_id"], run[0]["observation_date"][:7]) for run in runs} == {
        ("0m4a", "2019-01"), ("0m4a", "2019-07"), ("1m0a", "2019-01"), ("1m0a", "2019-07"),
    }  # fmt: skip
    assert len(fetch.pick_runs(rows)) == 12
    assert [len(run) for run in fetch.pick_runs([frame(k) for k in range(14)])] == [12]  # two are left, too few


def fake(monkeypatch, name, **members):
    module = ModuleType(name)
    vars(module).update(members)
    monkeypatch.setitem(sys.modules, name, module)
    if "." in name:
        monkeypatch.setitem(sys.modules, name.split(".")[0], ModuleType(name.split(".")[0]))


def test_hst_products_of_one_kind_once_each(monkeypatch):
    asked = {}

    def query(**criteria):
        asked.update(criteria)
        return Table({"obsid": ["1", "2"]})

    products = Table({
        "productFilename": ["j1_flc.fits", "j1_flt.fits", "j1_flc.fits"],
        "productSubGroupDescription": ["FLC", "FLT", "FLC"],
        "dataURI": ["mast:HST/j1_flc.fits", "mast:HST/j1_flt.fits", "mast:HST/j1_flc.fits"], "size": [10, 20, 10],
    })  # fmt: skip
    observations = SimpleNamespace(query_criteria=query, get_product_list=lambda rows: products)
    fake(monkeypatch, "astroquery.mast", Observations=observations)
    (item,) = fetch.find_hst({"filters": "F606W"})
    assert (item.path, item.size) == ("j1_flc.fits", 10)
    assert item.url.endswith("?uri=mast:HST/j1_flc.fits")
    assert {"filters": "F606W", "instrument_name": "ACS/WFC", "dataRights": "PUBLIC"}.items() <= asked.items()
    assert fetch.find_hst({"product": "flt"})[0].path == "j1_flt.fits"


def test_gemini_files_have_size_and_checksum(monkeypatch):
    table = Table(
        {"filename": ["N1.fits.bz2"], "file_size": [5], "file_md5": ["ab"], "data_size": [9], "data_md5": ["cd"]}
    )
    fake(monkeypatch, "astroquery.gemini", Observations=SimpleNamespace(query_criteria=lambda **_: table))
    (item,) = fetch.find_gemini({"instrument": "GMOS-S"})
    assert (item.url, item.size, item.checksum) == ("https://archive.gemini.edu/file/N1.fits", 9, "md5:cd")


def test_an_archive_that_does_not_answer_is_one_line(monkeypatch):
    def query(**_):
        raise ConnectionError("no route\nto host")

    fake(monkeypatch, "astroquery.gemini", Observations=SimpleNamespace(query_criteria=query))
    with pytest.raises(InputError, match="does not answer") as error:
        fetch.find_gemini({})
    assert "\n" not in str(error.value)


class Files(BaseHTTPRequestHandler):
    content: ClassVar = {}

    def log_message(self, *_):
        pass

    def do_GET(self):
        body = self.content[self.path.lstrip("/")]
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def zenodo(monkeypatch, tmp_path):
    """A record with an archive and a text, as pooch gives it."""
    inner = tmp_path / "inner.fits"
    inner.write_bytes(b"fits")
    packed = tmp_path / "test_set.tar.gz"
    with tarfile.open(packed, "w:gz") as stream:
        stream.add(inner, "test_set/masked_fits/inner.fits")
    Files.content = {
        "test_set.tar.gz": packed.read_bytes(),
        "train_set_1m0.tar.gz": b"never asked for",
        "README.md": b"read me",
    }
    served = ThreadingHTTPServer(("127.0.0.1", 0), Files)
    threading.Thread(target=served.serve_forever, daemon=True).start()
    files = [
        {"key": k, "size": len(v), "checksum": "md5:" + hashlib.md5(v).hexdigest()} for k, v in Files.content.items()
    ]
    repository = SimpleNamespace(
        api_response={"files": files}, download_url=lambda name: f"http://127.0.0.1:{served.server_port}/{name}"
    )
    fake(monkeypatch, "pooch.downloaders", doi_to_repository=lambda doi: repository)
    yield files
    served.shutdown()
    served.server_close()


def test_the_published_set_is_fetched_checked_and_unpacked(zenodo, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["fetch", "lco-cr", "--subset", "test", "-o", str(out)]) == 0
    assert (out / "test_set" / "masked_fits" / "inner.fits").read_bytes() == b"fits"
    assert not (out / "README.md").exists()
    said = "".join(capsys.readouterr())
    assert "1 files" in said
    assert "minutes" in said
    assert "doi:10.5281/zenodo.5034763" in said
    assert main(["fetch", "lco-cr", "--subset", "test", "-o", str(out)]) == 0
    assert "1 were there" in "".join(capsys.readouterr())


def test_a_dry_run_fetches_nothing(zenodo, tmp_path, capsys):
    assert main(["fetch", "lco-cr", "--dry-run", "-o", str(tmp_path / "out")]) == 0
    assert not (tmp_path / "out").exists()
    assert "test_set.tar.gz" in "".join(capsys.readouterr())


def test_a_wrong_checksum_is_named(zenodo, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("crcore.transfer.BACKOFF_S", 0.0)
    zenodo[0]["checksum"] = "md5:" + "0" * 32
    report = fetch.fetch_set("lco-cr", folder=tmp_path / "out", subset="test", backoff_s=0.0, retries=1)
    assert "md5" in report.failed[0][1]
    assert not (tmp_path / "out" / "test_set.tar.gz").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["lco-cr", "a=b"], "no query"),
        (["hst", "--subset", "test"], "--subset"),
        (["gemini", "GMOS"], "key=value"),
        (["lco-archive"], "start="),
        (["hst", "--limit", "-1"], "--limit"),
    ],
)
def test_wrong_use_is_one_line(arguments, said, capsys):
    assert main(["fetch", *arguments]) == 2
    assert said in capsys.readouterr().err
