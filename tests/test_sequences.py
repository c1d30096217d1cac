import numpy as np
import pytest
from astropy.io import fits
from conftest import exposure

from crcore.errors import InputError
from crcore.sequences import MAX_VISITS, find_exposures, find_sequences, night_of

NOON = 58000.5


def visit(folder, name, minutes, **cards):
    """An exposure without molecule that began some minutes after noon."""
    cards = {"OBJECT": "M67", "MJD-OBS": NOON + minutes / 1440} | cards
    return exposure(folder, name, None, **cards)


def names(runs):
    return [[p.name for p in run] for run in runs]


def reasons(rejected):
    assert all("\n" not in reason for _, reason in rejected)
    return {p.name: reason for p, reason in rejected}


def test_exposures_of_one_molecule_are_a_run_in_the_order_of_molfrnum(tmp_path):
    c, a, b = (exposure(tmp_path, f"{n}.fits", 7, number) for n, number in (("a", 3), ("b", 1), ("c", 2)))
    assert find_sequences(tmp_path) == ([[a, b, c]], [])


def test_order_is_by_number_and_not_by_text(tmp_path):
    paths = [exposure(tmp_path, f"{n:02}.fits", 7, n) for n in (10, 9, 8, 11, 12, 7)]
    assert find_sequences(tmp_path)[0] == [sorted(paths)]


def test_thirteenth_visit_and_later_are_left_out_with_a_reason(tmp_path):
    paths = [exposure(tmp_path, f"{n:02}.fits", 7, n) for n in range(1, 15)]
    runs, rejected = find_sequences(tmp_path)
    assert MAX_VISITS == 12
    assert runs == [paths[:12]]
    assert [p for p, _ in rejected] == paths[12:]
    assert all("first 12 visits" in reason for _, reason in rejected)


@pytest.mark.parametrize("card", ["molecule", "FILTER", "INSTRUME"])
def test_exposures_are_grouped_by_molecule_filter_and_camera(tmp_path, card):
    groups = [
        [exposure(tmp_path, f"{value}-{n}.fits", number=n, **{"molecule": "0", card: value}) for n in (1, 2, 3)]
        for value in ("1", "2")
    ]
    runs, rejected = find_sequences(tmp_path)
    assert sorted(runs) == groups
    assert rejected == []


@pytest.mark.parametrize("molecule", [7, None])
def test_exposure_times_that_differ_make_no_run(tmp_path, molecule):
    for n, t in ((1, 300.0), (2, 300.0), (3, 400.0)):
        exposure(tmp_path, f"{n}.fits", molecule, n, EXPTIME=t, **{"MJD-OBS": NOON + n * 0.004})
    runs, rejected = find_sequences(tmp_path)
    assert runs == []
    assert sorted(reasons(rejected)) == ["1.fits", "2.fits", "3.fits"]
    assert all("three are needed" in reason for _, reason in rejected)


@pytest.mark.parametrize("molecule", [7, None])
def test_exposure_times_within_five_percent_make_a_run(tmp_path, molecule):
    for n, t in ((1, 300.0), (2, 304.0), (3, 314.0)):
        exposure(tmp_path, f"{n}.fits", molecule, n, EXPTIME=t, **{"MJD-OBS": NOON + n * 0.004})
    assert names(find_sequences(tmp_path)[0]) == [["1.fits", "2.fits", "3.fits"]]


def test_two_visits_are_rejected_with_the_reason(tmp_path):
    paths = [exposure(tmp_path, f"{n}.fits", 7, n) for n in (1, 2)]
    runs, rejected = find_sequences(tmp_path)
    assert runs == []
    assert [p for p, _ in rejected] == paths
    assert all("one of 2" in reason and "three are needed" in reason for _, reason in rejected)


def test_a_gap_in_the_numbers_of_a_molecule_cuts_the_run(tmp_path):
    for n in (1, 2, 3, 5, 6, 7, 9):
        exposure(tmp_path, f"{n}.fits", 7, n)
    runs, rejected = find_sequences(tmp_path)
    assert names(runs) == [["1.fits", "2.fits", "3.fits"], ["5.fits", "6.fits", "7.fits"]]
    assert list(reasons(rejected)) == ["9.fits"]


@pytest.mark.parametrize("planned", [1, 2])
def test_molecule_planned_with_fewer_than_three_visits_is_rejected(tmp_path, planned):
    for n in (1, 2, 3):
        exposure(tmp_path, f"{n}.fits", 7, n, FRMTOTAL=planned)
    runs, rejected = find_sequences(tmp_path)
    assert runs == []
    assert all(f"{planned} visits of its molecule" in reason for _, reason in rejected)


def test_molecule_planned_with_three_visits_is_a_run(tmp_path):
    paths = [exposure(tmp_path, f"{n}.fits", 7, n, FRMTOTAL=3) for n in (1, 2, 3)]
    assert find_sequences(tmp_path) == ([paths], [])


def test_short_exposures_are_rejected_with_the_reason(tmp_path):
    paths = [exposure(tmp_path, f"{n}.fits", 7, n, EXPTIME=60.0) for n in (1, 2, 3)]
    runs, rejected = find_sequences(tmp_path)
    assert runs == []
    assert [p for p, _ in rejected] == paths
    assert all("60 s" in reason and "100 s" in reason for _, reason in rejected)
    assert len(find_sequences(tmp_path, min_exposure_s=60.0)[0]) == 1


@pytest.mark.parametrize("card", ["OBSTYPE", "IMAGETYP"])
@pytest.mark.parametrize("kind", ["BIAS", "Dark Frame", "SKYFLAT", "ARC", "LAMPFLAT", "zero"])
def test_calibrations_are_rejected_as_such(tmp_path, card, kind):
    for n in (1, 2, 3):
        exposure(tmp_path, f"{n}.fits", 7, n, **{card: kind})
    runs, rejected = find_sequences(tmp_path)
    assert runs == []
    assert all("is a calibration" in reason and kind.upper() in reason for _, reason in rejected)


@pytest.mark.parametrize("kind", ["EXPOSE", "object", "SPECTRUM"])
def test_exposures_of_the_sky_are_no_calibrations(tmp_path, kind):
    for n in (1, 2, 3):
        exposure(tmp_path, f"{n}.fits", 7, n, OBSTYPE=kind)
    assert len(find_sequences(tmp_path)[0]) == 1


def test_list_of_files_is_taken_like_a_folder_and_only_these(tmp_path):
    paths = [exposure(tmp_path, f"{n}.fits", 7, n) for n in (1, 2, 3, 4)]
    assert find_sequences([str(p) for p in paths[1:]]) == ([paths[1:]], [])


def test_missing_folder_is_reported(tmp_path):
    with pytest.raises(InputError, match="nowhere: no such folder"):
        find_sequences(tmp_path / "nowhere")


def test_missing_file_of_a_list_is_rejected_and_hides_nothing(tmp_path):
    paths = [exposure(tmp_path, f"{n}.fits", 7, n) for n in (1, 2, 3)]
    runs, rejected = find_sequences([tmp_path / "gone.fits", *paths])
    assert runs == [paths]
    assert reasons(rejected)["gone.fits"].startswith("cannot be read")


def test_unreadable_files_are_rejected_and_hide_nothing(tmp_path):
    whole = [exposure(tmp_path, f"{n}.fits", 7, n) for n in (1, 2, 3)]
    (tmp_path / "text.fits").write_text("no image here\n" * 300)
    (tmp_path / "empty.fits").touch()
    runs, rejected = find_sequences(tmp_path)
    assert runs == [whole]
    assert sorted(reasons(rejected)) == ["empty.fits", "text.fits"]
    assert all(reason.startswith("cannot be read") for _, reason in rejected)


@pytest.mark.parametrize(("card", "value"), [("EXPTIME", "N/A"), ("MOLFRNUM", "N/A"), ("EXPTIME", True)])
def test_file_with_a_keyword_that_is_no_number_is_rejected_and_hides_nothing(tmp_path, card, value):
    whole = [exposure(tmp_path, f"{n}.fits", 7, n) for n in (1, 2, 3)]
    odd = exposure(tmp_path, "odd.fits", 7, 4, **{card: value})
    runs, rejected = find_sequences(tmp_path)
    assert runs == [whole]
    assert [p for p, _ in rejected] == [odd]


def test_file_without_exposure_time_is_rejected(tmp_path):
    exposure(tmp_path, "a.fits", EXPTIME=None)
    runs, rejected = find_sequences(tmp_path)
    assert runs == []
    assert "EXPTIME" in reasons(rejected)["a.fits"]


def test_copies_and_products_are_not_taken_for_exposures(tmp_path):
    image = np.zeros((8, 8), "f4")
    for n in (1, 2, 3):
        exposure(tmp_path, f"e{n}.fits", 7, n, data=image)
    exposure(tmp_path, "e2-again.fits", 7, 2, data=image)
    exposure(tmp_path, "e4_cr.fits", 7, 4, extra=[fits.ImageHDU(image, name="CRMASK")])
    masks = [fits.ImageHDU(image, name="CR"), fits.ImageHDU(image, name="IGNORE")]
    exposure(tmp_path, "e5_3frms_masks.fits", 7, 5, extra=masks)
    runs, rejected = find_sequences(tmp_path)
    assert names(runs) == [["e1.fits", "e2-again.fits", "e3.fits"]]
    told = reasons(rejected)
    assert sorted(told) == ["e2.fits", "e4_cr.fits", "e5_3frms_masks.fits"]
    assert "same exposure as e2-again.fits" in told["e2.fits"]
    assert all("product" in told[name] for name in ("e4_cr.fits", "e5_3frms_masks.fits"))


def test_an_exposure_is_judged_by_its_own_header_and_not_by_its_masks(tmp_path):
    image = np.zeros((8, 8), "f4")
    mask = fits.ImageHDU(image, fits.Header({"OBSTYPE": "BPM"}), name="BPM")
    exposure(tmp_path, "sky.fits", 7, 1, data=image, extra=[mask], OBSTYPE="EXPOSE")
    exposure(tmp_path, "dark.fits", 7, 2, data=image, OBSTYPE="DARK")
    inside = fits.ImageHDU(image, fits.Header({"IMAGETYP": "flat"}))
    fits.HDUList([fits.PrimaryHDU(), inside]).writeto(tmp_path / "flat.fits")
    exposure(tmp_path, "sky_cr.fits", 7, 3, extra=[fits.ImageHDU(image, name="CRMASK")])
    (tmp_path / "broken.fits").write_text("no image")
    paths, rejected = find_exposures(tmp_path)
    assert [p.name for p in paths] == ["broken.fits", "sky.fits"]
    assert {name: reason.split(",")[0] for name, reason in reasons(rejected).items()} == {
        "dark.fits": "is a calibration (DARK)",
        "flat.fits": "is a calibration (FLAT)",
        "sky_cr.fits": "is a product of detection or labeling",
    }


def test_exposures_without_molecule_are_a_run_in_the_order_of_time(tmp_path):
    for name, minutes in (("b", 6), ("a", 12), ("c", 0)):
        visit(tmp_path, f"{name}.fits", minutes)
    runs, rejected = find_sequences(tmp_path)
    assert names(runs) == [["c.fits", "b.fits", "a.fits"]]
    assert rejected == []


@pytest.mark.parametrize(
    "times",
    [
        [{"DATE-OBS": f"2019-03-26T05:{m:02}:00.0"} for m in (0, 6, 12)],
        [{"DATE-OBS": "2019-03-26", "UTSTART": f"05:{m:02}:00.0"} for m in (0, 6, 12)],
        [{"DATE-OBS": "2019-03-26", "UT": f"05:{m:02}:00"} for m in (0, 6, 12)],
    ],
)
def test_time_of_observation_is_read_in_the_forms_in_use(tmp_path, times):
    for i, cards in enumerate(times):
        visit(tmp_path, f"{i}.fits", 0, **{"MJD-OBS": None}, **cards)
    assert names(find_sequences(tmp_path)[0]) == [["0.fits", "1.fits", "2.fits"]]


def test_file_without_molecule_and_time_is_rejected_with_the_reason(tmp_path):
    visit(tmp_path, "a.fits", 0, **{"MJD-OBS": None})
    runs, rejected = find_sequences(tmp_path)
    assert runs == []
    assert "time of observation" in reasons(rejected)["a.fits"]


@pytest.mark.parametrize(
    ("cards", "whole"),
    [
        ({}, True),
        ({"FILTER": "gp"}, False),
        ({"OBJECT": "M3"}, False),
        ({"CCDSUM": "2 2"}, False),
        ({"CRVAL1": 150.05}, True),  # degrees, at declination 2
        ({"CRVAL1": 150.11}, False),
        ({"CRVAL2": 2.11}, False),
        ({"CTYPE1": None, "CTYPE2": None, "RA": "10:00:01", "DEC": "+02:00:00"}, True),
        ({"CTYPE1": None, "CTYPE2": None, "RA": "10:01:00", "DEC": "+02:00:00"}, False),
    ],
)
def test_run_goes_on_only_with_the_same_filter_object_binning_and_pointing(tmp_path, cards, whole):
    first = {"RA": "10:00:00", "DEC": "+02:00:00", "CTYPE1": None, "CTYPE2": None} if "RA" in cards else {}
    for i in range(3):
        visit(tmp_path, f"{i}.fits", 6 * i, **first)
    visit(tmp_path, "3.fits", 18, **cards)
    run = ["0.fits", "1.fits", "2.fits"]
    assert names(find_sequences(tmp_path)[0]) == [[*run, "3.fits"] if whole else run]


def test_positions_either_side_of_0_hours_are_near(tmp_path):
    for i, ra in enumerate((359.99, 0.0, 0.01)):
        visit(tmp_path, f"{i}.fits", 6 * i, CRVAL1=ra)
    assert len(find_sequences(tmp_path)[0]) == 1


@pytest.mark.parametrize(("pause", "whole"), [(14.5, True), (15.5, False)])
def test_pause_of_more_than_15_minutes_after_the_end_of_an_exposure_cuts_the_run(tmp_path, pause, whole):
    for i in range(3):
        visit(tmp_path, f"{i}.fits", 5 * i)
    visit(tmp_path, "3.fits", 10 + 5 + pause)
    assert len(find_sequences(tmp_path)[0][0]) == (4 if whole else 3)


def test_another_filter_in_between_cuts_the_run(tmp_path):
    for i in range(6):
        visit(tmp_path, f"{i}.fits", 6 * i)
    visit(tmp_path, "other.fits", 15, FILTER="gp")
    runs, rejected = find_sequences(tmp_path)
    assert names(runs) == [["0.fits", "1.fits", "2.fits"], ["3.fits", "4.fits", "5.fits"]]
    assert list(reasons(rejected)) == ["other.fits"]


def test_another_camera_in_between_does_not_cut_the_run(tmp_path):
    for i in range(3):
        visit(tmp_path, f"{i}.fits", 6 * i)
    visit(tmp_path, "other.fits", 3, INSTRUME="fa99")
    assert names(find_sequences(tmp_path)[0]) == [["0.fits", "1.fits", "2.fits"]]


def test_copy_of_an_exposure_without_molecule_is_known_by_its_time(tmp_path):
    for i in range(3):
        visit(tmp_path, f"{i}.fits", 6 * i)
    visit(tmp_path, "1-again.fits", 6)
    runs, rejected = find_sequences(tmp_path)
    assert names(runs) == [["0.fits", "1-again.fits", "2.fits"]]
    assert "same exposure as 1-again.fits" in reasons(rejected)["1.fits"]


@pytest.mark.parametrize("kept", [0.4, 0.9])
def test_truncated_compressed_file_is_rejected_and_hides_nothing(tmp_path, kept):
    whole = [exposure(tmp_path, f"{n}.fits", 7, n) for n in (1, 2, 3)]
    image = np.random.default_rng(0).normal(300, 12, (100, 100)).astype("f4")
    science = fits.CompImageHDU(image, header=fits.getheader(whole[0], 1), name="SCI")
    fits.HDUList([fits.PrimaryHDU(), science]).writeto(tmp_path / "cut.fits.fz")
    content = (tmp_path / "cut.fits.fz").read_bytes()
    (tmp_path / "cut.fits.fz").write_bytes(content[: int(kept * len(content))])
    runs, rejected = find_sequences(tmp_path)
    assert runs == [whole]
    assert reasons(rejected)["cut.fits.fz"].startswith("cannot be read")


@pytest.mark.parametrize(
    ("cards", "night"),
    [
        ({"DAY-OBS": "20190325", "DATE-OBS": "2019-03-27T01:00:00"}, "20190325"),
        ({"DATE-OBS": "2019-03-26T23:30:00", "LONGITUD": -70.8}, "20190326"),  # Chile, evening
        ({"DATE-OBS": "2019-03-27T08:30:00", "LONGITUD": -70.8}, "20190326"),  # and morning of one night
        ({"DATE-OBS": "2019-03-26T09:30:00", "LONGITUD": 149.07}, "20190326"),  # Australia: noon at Greenwich
        ({"DATE-OBS": "2019-03-26T18:30:00", "LONGITUD": 149.07}, "20190326"),  # lies within its night
        ({"DATE-OBS": "2019-03-26T05:30:00", "LONGITUD": 204.5}, "20190325"),  # Hawaii, east of Greenwich
        ({"DATE-OBS": "2019-03-27T04:00:00"}, "20190326"),
        ({"DAY-OBS": "2019-03-26"}, "20190326"),
        ({"DATE-OBS": "2019-03-26T12:30:00", "SITELONG": "-121:38:12"}, "20190325"),  # California, before dawn
        ({"DATE-OBS": "2019-03-26"}, "20190326"),
        ({}, ""),
    ],
)
def test_night_has_the_date_of_its_evening(cards, night):
    assert night_of(fits.Header(cards)) == night
