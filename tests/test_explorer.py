"""The explorer's core, without a browser."""

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import ndimage

from crcore.dataset import read_sequence
from crcore.detection import Detection
from crcore.errors import InputError
from crcore.explorer.saved import load_mask, save_mask, save_training
from crcore.explorer.screen import Screen
from crcore.explorer.session import Session, from_slider, to_slider
from crcore.frame import Frame


def made(shape=(60, 80), *, seed=1, silent=False, **options):
    """A session whose probabilities are blobs of all heights."""
    rng = np.random.default_rng(seed)
    prob = ndimage.gaussian_filter(rng.random(shape), 1.2)
    prob = np.clip((prob - prob.min()) / np.ptp(prob), 0, 1).astype(np.float32) ** 3
    unseen = np.zeros(shape, dtype=bool)
    if silent:
        unseen[10:20, 10:20] = True
    header = fits.Header({"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 150.0, "CRVAL2": 2.0, "CRPIX1": 1,
                          "CRPIX2": 1, "CDELT1": -1e-4, "CDELT2": 1e-4})  # fmt: skip
    frame = Frame(rng.normal(300, 18, shape).astype(np.float32), read_noise=5.0, header=header, name="made.fits")
    return Session(Detection(prob, unseen, 0.5, "made", frame=frame), **options)


@settings(max_examples=40, deadline=None)
@example(threshold=0.9999999999999999, dilate=0, least=1, silent=False)  # 1 as a float32, and a probability is 1
@given(threshold=st.floats(0.001, 1), dilate=st.integers(0, 3), least=st.integers(1, 9), silent=st.booleans())
def test_the_mask_is_what_the_plain_way_gives(threshold, dilate, least, silent):
    session = made(silent=silent)
    session.set(threshold=threshold, dilate=dilate, min_pixels=least)
    plain = (session.detection.prob > np.float32(threshold)) & ~session.detection.not_evaluated
    labels, n = ndimage.label(plain, np.ones((3, 3)))
    sizes = np.bincount(labels.ravel(), minlength=n + 1)
    plain &= sizes[labels] >= least
    if dilate:
        plain = ndimage.binary_dilation(plain, np.ones((3, 3)), iterations=dilate) & ~session.detection.not_evaluated
    np.testing.assert_array_equal(session.mask, plain)
    counts = session.counts()
    assert counts["pixels"] == plain.sum()
    assert counts["rays"] == ndimage.label(plain, np.ones((3, 3)))[1]


def test_the_sliders_small_end_is_logarithmic():
    for p in (1e-4, 3e-3, 0.1, 0.5, 1.0):
        assert from_slider(to_slider(p)) == pytest.approx(p)
    assert from_slider(-3) == pytest.approx(1e-3)


@pytest.mark.parametrize("wrong", [{"threshold": 1.5}, {"dilate": -1}, {"min_pixels": 0}, {"threshold": float("nan")}])
def test_numbers_that_cannot_be_are_refused(wrong):
    with pytest.raises(InputError):
        made().set(**wrong)


def test_precision_and_recall_with_truth():
    truth = np.zeros((60, 80), dtype=bool)
    truth[30:35, 30:40] = True
    session = made(truth=truth)
    counts, mask = session.counts(), session.mask
    assert counts["precision"] == pytest.approx((mask & truth).sum() / mask.sum())
    assert counts["recall"] == pytest.approx((mask & truth).sum() / 50)
    assert session.scores.positives == 50


def test_edits_are_kept_undone_and_made_again():
    session = made(silent=True)
    before = session.mask.copy()
    session.brush("paint", [(5, 5), (9, 5)], 0)
    painted = session.mask.copy()
    assert painted[5, 5:10].all()
    assert (painted != before).sum() <= 5
    session.brush("erase", [(0, 0)], 100)
    assert not session.mask.any()
    session.undo()
    np.testing.assert_array_equal(session.mask, painted)
    session.undo()
    np.testing.assert_array_equal(session.mask, before)
    assert not session.undo()
    assert session.redo()
    np.testing.assert_array_equal(session.mask, painted)
    session.set(threshold=0.9)  # an edit outlives the threshold
    assert session.mask[5, 5:10].all()
    session.brush("paint", [(12, 12)], 2)  # what was not evaluated is never flagged
    assert not session.mask[10:20, 10:20].any()


def test_a_whole_ray_goes_and_comes():
    session = made()
    session.set(threshold=0.4)
    x, y, size = session.largest(1)[0]
    rows, columns = np.nonzero(ndimage.label(session.mask, np.ones((3, 3)))[0] == ndimage.label(
        session.mask, np.ones((3, 3)))[0][session.mask].max())  # fmt: skip
    pixels = session.mask.sum()
    session.whole_ray("remove ray", int(columns[0]), int(rows[0]))
    assert session.mask.sum() == pixels - len(rows)
    session.whole_ray("add ray", int(columns[0]), int(rows[0]))
    assert session.mask[rows[0], columns[0]]
    assert [e.kind for e in session.edits] == ["remove ray", "add ray"]
    with pytest.raises(InputError, match="no ray"):
        session.whole_ray("remove ray", *np.argwhere(~session.mask)[0][::-1])
    with pytest.raises(InputError, match="outside"):
        session.whole_ray("add ray", 500, 3)


def test_a_saved_mask_is_found_again(tmp_path):
    session = made(silent=True)
    session.set(threshold=0.33, dilate=1, min_pixels=3)
    session.brush("paint", [(40, 40), (50, 44)], 1)
    session.brush("erase", [(2, 2)], 3)
    path = tmp_path / "mask.fits"
    save_mask(session, path)
    with fits.open(path) as hdus:
        assert hdus[0].header["CRTHRESH"] == 0.33
        assert hdus[0].header["CREDITED"] == 2
        assert hdus[0].header["CRNPIX"] == session.mask.sum()
        np.testing.assert_array_equal((hdus["CRMASK"].data & 1) > 0, session.mask)
        np.testing.assert_array_equal((hdus["CRMASK"].data & 2) > 0, session.detection.not_evaluated)
        assert [row["kind"] for row in hdus["CREDITS"].data] == ["paint", "erase"]
    again = load_mask(path, session.frame)
    np.testing.assert_array_equal(again.mask, session.mask)
    again.undo()
    again.undo()
    session.undo()
    session.undo()
    np.testing.assert_array_equal(again.mask, session.mask)


def test_a_file_that_is_no_saved_mask_is_explained(tmp_path):
    session = made()
    fits.PrimaryHDU(session.frame.data).writeto(tmp_path / "other.fits")
    with pytest.raises(InputError, match="no saved mask"):
        load_mask(tmp_path / "other.fits", session.frame)
    save_mask(session, tmp_path / "mask.fits")
    with pytest.raises(InputError, match="60, 80"):
        load_mask(tmp_path / "mask.fits", made((20, 20)).frame)


def test_an_edited_mask_is_a_training_example(tmp_path):
    session = made(silent=True)
    session.brush("paint", [(40, 40)], 1)
    sequence = read_sequence(save_training(session, tmp_path))
    np.testing.assert_array_equal(sequence.cr[0] > 0, session.mask)
    np.testing.assert_array_equal(sequence.ignore[0] > 0, session.detection.not_evaluated)
    assert sequence.headers[0]["LABELS"] == "hand"


def test_what_stands_at_a_pixel():
    session = made()
    found = session.read(0, 0)
    assert (round(found["ra"], 5), round(found["dec"], 5)) == (150.0, 2.0)
    assert found["value"] == pytest.approx(float(session.frame.data[0, 0]))
    assert session.read(-1, 0) is None


def test_pictures_show_the_right_pixels():
    session = made()
    session.set(threshold=0.4)
    screen = Screen(width=160, height=120).fit(session.shape)
    assert screen.zoom == 2
    base = screen.image(session)
    assert base.shape == (120, 160, 3)
    picture = screen.overlay(session, base)
    flagged = np.all(picture == (230, 159, 0), axis=2)
    np.testing.assert_array_equal(flagged[::2, ::2][::-1], session.mask)  # rows go up on the screen
    assert screen.pixel_at(0, 119) == (0, 0)
    assert screen.pixel_at(159, 0) == (79, 59)


def test_from_afar_no_ray_is_lost():
    session = made((600, 800))
    session.set(threshold=0.5)
    screen = Screen(width=80, height=60).fit(session.shape)
    seen = np.all(screen.overlay(session, screen.image(session)) == (230, 159, 0), axis=2)
    for x, y, _ in session.largest(20):
        column, row = (x - screen.x) * screen.zoom + 39.5, (screen.y - y) * screen.zoom + 29.5
        assert seen[max(int(row) - 1, 0) : int(row) + 3, max(int(column) - 1, 0) : int(column) + 3].any()


def test_zooming_keeps_the_pixel_under_the_pointer():
    session = made()
    screen = Screen(width=160, height=120).fit(session.shape)
    nearer = screen.zoomed(3.0, session.shape, at=(20, 30))
    where = [((20 - s.x) * s.zoom, (30 - s.y) * s.zoom) for s in (screen, nearer)]
    np.testing.assert_allclose(*where)


def test_two_detectors_agree_or_not_in_colours():
    one, other = made(seed=1), made(seed=2)
    session = Session(one.detection, second=other.detection)
    screen = Screen(width=80, height=60).fit(session.shape)
    picture = screen.overlay(session, np.full((60, 80, 3), 255, dtype=np.uint8))[::-1]
    for colour, where in (((230, 159, 0), one.mask & ~other.mask), ((86, 180, 233), other.mask & ~one.mask),
                          ((0, 0, 0), one.mask & other.mask)):  # fmt: skip
        np.testing.assert_array_equal(np.all(picture == colour, axis=2), where)


def test_a_frame_without_rays_is_no_trouble():
    frame = Frame(np.zeros((30, 30), dtype=np.float32))
    session = Session(Detection(np.zeros((30, 30), np.float32), np.zeros((30, 30), bool), 0.5, "none", frame=frame))
    assert session.counts() == {"rays": 0, "pixels": 0, "fraction": 0.0}
    assert session.largest() == []
    assert Screen(width=40, height=40).fit((30, 30)).image(session).shape == (40, 40, 3)


def test_a_frame_is_never_overwritten_and_no_name_is_too_strange(tmp_path):
    session = made()
    fits.PrimaryHDU(session.frame.data).writeto(tmp_path / "frame.fits")
    with pytest.raises(InputError, match="no mask that the explorer saved"):
        save_mask(session, tmp_path / "frame.fits")
    strange = Session(Detection(session.detection.prob, session.detection.not_evaluated, 0.5, "made",
                                frame=Frame(session.frame.data, read_noise=5.0, name="fráme.fits[2]")))  # fmt: skip
    for _ in range(2):
        save_mask(strange, tmp_path / "mask.fits")
    assert load_mask(tmp_path / "mask.fits", strange.frame).mask.sum() == strange.mask.sum()
    with pytest.raises(InputError, match="is the mask of"):
        load_mask(tmp_path / "mask.fits", session.frame)
    one, two = save_training(strange, tmp_path), save_training(strange, tmp_path)
    assert one != two
    assert one.name.startswith("fráme-2_")


def test_a_long_track_goes_whole():
    prob = np.zeros((40, 700), dtype=np.float32)
    prob[20, 20:660] = 0.9
    frame = Frame(np.full(prob.shape, 300.0, dtype=np.float32))
    session = Session(Detection(prob, np.zeros(prob.shape, bool), 0.5, "track", frame=frame))
    session.whole_ray("remove ray", 25, 20)
    assert not session.mask.any()


def test_edits_outlive_another_model():
    session, other = made(seed=1), made(seed=2)
    session.brush("paint", [(5, 5)], 1)
    session.set(dilate=1)
    other.take_over(session)
    assert other.mask[5, 5]
    assert other.dilate == 1
    assert other.undo()
