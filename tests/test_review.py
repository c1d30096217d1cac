import numpy as np
import pytest
from astropy.table import Table
from conftest import RAY, SHAPE, SMALL, exposures, frames_of, with_ray
from matplotlib.image import imread

from crcore import results
from crcore.errors import InputError
from crcore.label_batch import MANIFEST
from crcore.labeling import label_sequence
from crcore.labelled import Sequence
from crcore.release import labelled_files
from crcore.review import contact_sheet, decide, write_index


@pytest.fixture(scope="module")
def sequence():
    return label_sequence(frames_of(with_ray(exposures())), SMALL)


@pytest.fixture(scope="module")
def sheet(sequence, tmp_path_factory):
    path = tmp_path_factory.mktemp("sheets") / "new" / "a.png"
    contact_sheet(path, sequence)
    return path


def test_contact_sheet_is_a_picture_with_something_on_it(sheet):
    picture = imread(sheet)
    height, width = picture.shape[:2]
    assert width > 1000
    assert height > 600
    # in every third, for each exposure, there are dark and bright pixels
    for band in np.array_split(picture[..., :3], 3):
        assert band.std() > 0.1
        assert band.min() < 0.2 < 0.8 < band.max()


def test_contact_sheet_shows_rays_in_colour_and_nothing_else_does(sheet, sequence, tmp_path):
    blank = Sequence(
        sequence.data, np.zeros_like(sequence.cr), sequence.ignore, sequence.headers, sequence.names, Table()
    )
    contact_sheet(tmp_path / "blank.png", blank)

    def coloured(path):
        picture = imread(path)[..., :3]
        return int((np.ptp(picture, axis=2) > 0.2).sum())

    assert sequence.cr[1][RAY].all()
    assert coloured(sheet) > 100
    assert coloured(tmp_path / "blank.png") == 0


def test_contact_sheet_is_whole_or_not_there(sheet):
    assert [p.name for p in sheet.parent.iterdir()] == ["a.png"]


def test_contact_sheet_of_frames_without_data_in_places_is_drawn(tmp_path):
    images = exposures(4)
    images[0][:, :60] = np.nan
    contact_sheet(tmp_path / "a.png", label_sequence(frames_of(images), SMALL), title="<four>")
    assert imread(tmp_path / "a.png")[..., :3].std() > 0.1


def test_contact_sheet_of_large_frames_is_not_larger(tmp_path):
    data = np.random.default_rng(0).normal(200, 14, (3, 700, 1400)).astype("f4")
    masks = np.zeros(data.shape, "u1")
    masks[1, 600:603, 1300] = 1
    wide = Sequence(data, masks, masks * 0, frames_of(data[:, : SHAPE[0], : SHAPE[1]]), ("a", "b", "c"), Table())
    contact_sheet(tmp_path / "a.png", wide)
    assert max(imread(tmp_path / "a.png").shape) < 1600


@pytest.fixture
def folder(tmp_path):
    """A manifest of three labelled sequences, their empty files, and one row of what was left out."""
    rows = []
    for number in (1, 2, 3):
        file = f"masked_fits/cpt-{number:02d}_3frms_masks.fits"
        values = {"file": file, "split": "train", "sheet": f"contact_sheets/cpt-{number:02d}.png"}
        rows.append({column: values.get(column, "") for column in MANIFEST})
    rows.append({column: "" for column in MANIFEST} | {"left_out": "cannot be read", "frames": "x.fits"})
    results.write_rows(tmp_path / "manifest.csv", rows)
    return tmp_path


def verdicts(folder):
    return {r["file"]: (r["review"], r["reason"]) for r in results.read_rows(folder / "manifest.csv") if r["file"]}


FILES = [f"masked_fits/cpt-{n:02d}_3frms_masks.fits" for n in (1, 2, 3)]


def test_decisions_are_kept_in_the_manifest(folder):
    before = results.read_rows(folder / "manifest.csv")
    assert decide(folder, ["cpt-01", FILES[2]], "rejected", "a trail, see corner") == [FILES[0], FILES[2]]
    assert decide(folder, ["cpt-02_3frms_masks.fits"], "accepted") == [FILES[1]]
    assert verdicts(folder) == {
        FILES[0]: ("rejected", "a trail, see corner"),
        FILES[1]: ("accepted", ""),
        FILES[2]: ("rejected", "a trail, see corner"),
    }
    after = results.read_rows(folder / "manifest.csv")
    for row in (*before, *after):
        row.update(review="", reason="")
    assert after == before


def test_decision_can_be_changed(folder):
    decide(folder, ["cpt-01"], "rejected", "why")
    decide(folder, ["cpt-01"], "accepted", "looked again")
    assert verdicts(folder)[FILES[0]] == ("accepted", "looked again")


def test_rejected_sequences_are_no_longer_part_of_the_dataset(folder):
    assert [p.name for p in labelled_files(folder)] == [f.split("/")[1] for f in FILES]
    decide(folder, ["cpt-02"], "rejected")
    assert [p.name for p in labelled_files(folder)] == [FILES[0].split("/")[1], FILES[2].split("/")[1]]
    assert [p.name for p in labelled_files(folder, "train")] == [FILES[0].split("/")[1], FILES[2].split("/")[1]]


def test_dataset_of_which_all_was_rejected_is_empty(folder):
    for file in FILES:  # were they found on disk, they would come back by themselves
        (folder / file).parent.mkdir(exist_ok=True)
        (folder / file).touch()
    decide(folder, FILES, "rejected")
    with pytest.raises(InputError, match="holds no labelled sequences"):
        labelled_files(folder)


@pytest.mark.parametrize(("name", "found"), [("cpt", "3 labelled sequences"), ("ogg", "0 labelled sequences")])
def test_name_that_fits_several_or_none_is_reported_and_changes_nothing(folder, name, found):
    before = (folder / "manifest.csv").read_bytes()
    with pytest.raises(InputError, match=rf"^{name}: fits {found}[^\n]*$"):
        decide(folder, ["cpt-01", name], "rejected")
    assert (folder / "manifest.csv").read_bytes() == before


def test_unknown_verdict_is_reported(folder):
    with pytest.raises(InputError, match="verdict 'maybe' is unknown: use accepted or rejected"):
        decide(folder, ["cpt-01"], "maybe")


def test_folder_without_manifest_is_reported(tmp_path):
    with pytest.raises(InputError, match=r"manifest\.csv: no such file"):
        decide(tmp_path, ["a"], "accepted")


def test_manifest_of_something_else_is_reported(tmp_path):
    results.write_rows(tmp_path / "manifest.csv", [{"file": "a", "split": "train"}])
    with pytest.raises(InputError, match="is no manifest of 'crcore label'"):
        decide(tmp_path, ["a"], "accepted")


def test_index_shows_all_sheets_with_decisions_and_takes_no_html_from_outside(folder):
    rows = results.read_rows(folder / "manifest.csv")
    rows[0]["file"] = 'masked_fits/<b>"x"&-cpt-01.fits'
    rows[0]["sheet"] = 'contact_sheets/a"onload="b.png'
    results.write_rows(folder / "manifest.csv", rows)
    decide(folder, ["cpt-02"], "rejected", "<script>alert(1)</script>")
    page = (folder / "contact_sheets" / "index.html").read_text()
    assert page.count("<img") == 3
    assert page.count("not reviewed") == 2
    assert "rejected &lt;script&gt;" in page
    assert 'src="cpt-02.png"' in page
    for outside in ("<script", "<b>", '"onload', '"x"'):
        assert outside not in page


def test_index_of_a_folder_is_the_same_after_a_second_writing(folder):
    write_index(folder)
    first = (folder / "contact_sheets" / "index.html").read_bytes()
    write_index(folder)
    assert (folder / "contact_sheets" / "index.html").read_bytes() == first
