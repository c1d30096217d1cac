import numpy as np
import pytest

from crcore import Frame, InputError, figures_generic
from crcore.detection import Detection
from crcore.harm import core_flagged, count_harmed, find_stars, harm_at_recall, harm_by_width, star_field
from crcore.metrics import PixelScores


def field(rng, n=3, size=160):
    """Exposures of a grid of stars, FWHM 3 px, and one ray in the first."""
    y, x = np.mgrid[:size, :size]
    sky = np.full((size, size), 200.0)
    places = [(30.3, 40.0), (80.0, 80.6), (120.2, 50.0)]
    for row, column in places:
        sky += 5000 * np.exp(-((x - column) ** 2 + (y - row) ** 2) / (2 * (3 / 2.3548) ** 2))
    frames = []
    for k in range(n):
        data = rng.poisson(sky).astype(np.float32)
        if k == 0:
            data[60, 100:110] += 4000
        frames.append(Frame(data, read_noise=5.0))
    return frames, places


def test_stars_are_found_where_they_are_and_rays_are_none():
    frames, places = field(np.random.default_rng(1))
    stars = find_stars(frames)
    assert len(stars) == 3
    found = sorted(zip(stars.y, stars.x, strict=True))
    np.testing.assert_allclose(found, sorted(places), atol=0.2)
    np.testing.assert_allclose(stars.fwhm_px, 3.0, rtol=0.15)
    np.testing.assert_allclose(stars.snr, 5000 / np.sqrt(200), rtol=0.2)


def test_a_star_is_harmed_when_its_core_is_flagged_twice():
    frames, _ = field(np.random.default_rng(2))
    stars = find_stars(frames)
    once, never = np.zeros(frames[0].shape, dtype=bool), np.zeros(frames[0].shape, dtype=bool)
    once[80, 81] = True
    assert core_flagged(once, stars).sum() == 1
    assert count_harmed([once, never, never], stars).sum() == 0
    assert count_harmed([once, never, once], stars).sum() == 1


def test_a_flag_beside_the_core_is_no_harm():
    frames, _ = field(np.random.default_rng(3))
    mask = np.zeros(frames[0].shape, dtype=bool)
    mask[80, 83] = True  # 2.4 px away
    assert core_flagged(mask, find_stars(frames)).sum() == 0


def test_two_exposures_are_too_few():
    frames, _ = field(np.random.default_rng(4), n=2)
    with pytest.raises(InputError, match="three are needed"):
        find_stars(frames)


def test_a_simulated_field_has_its_stars_where_it_says():
    frame, stars = star_field(2.5, np.random.default_rng(5), side=256)
    bright = (stars.snr > 100) & ~core_flagged(frame.saturated, stars)
    assert bright.sum() > 3
    rows, columns = np.round(stars.y[bright]).astype(int), np.round(stars.x[bright]).astype(int)
    noise = np.std(frame.data[frame.data < np.median(frame.data)])
    for row, column in zip(rows, columns, strict=True):
        stamp = frame.data[row - 2 : row + 3, column - 2 : column + 3]
        assert stamp[1:4, 1:4].max() == stamp.max() > np.median(frame.data) + 20 * noise


def test_harm_is_counted_by_width_and_brightness():
    def everything(frame):
        return Detection(np.ones(frame.shape, np.float32), np.zeros(frame.shape, bool), 0.5, "all", frame=frame)

    def nothing(frame):
        return Detection(np.zeros(frame.shape, np.float32), np.zeros(frame.shape, bool), 0.5, "none", frame=frame)

    rows = harm_by_width({"all": everything, "none": nothing}, [1.5, 4.0], np.random.default_rng(6), fields=1)
    assert sum(r["stars"] for r in rows if r["detector"] == "all") == 2 * 15**2
    assert all(r["harmed"] == (r["stars"] if r["detector"] == "all" else 0) for r in rows)


def test_harm_at_equal_completeness_takes_the_threshold_that_finds_so_much():
    pixels = PixelScores()
    pixels.add(np.array([0.9, 0.8, 0.4, 0.2, 0.05, 0.0]), np.array([1, 1, 1, 1, 0, 0]).astype(bool))
    peaks = np.array([0.95, 0.5, 0.3, 0.1])
    rows = harm_at_recall(pixels, peaks, [0.25, 0.5, 0.75, 1.0])
    assert [row["harmed"] for row in rows] == [1, 1, 2, 3]
    np.testing.assert_allclose([row["threshold"] for row in rows], [0.9, 0.8, 0.4, 0.2], rtol=1e-3)
    pixels.add(np.array([0.0]), np.array([True]))  # one that is never found
    assert len(harm_at_recall(pixels, peaks, [0.5, 1.0])) == 1
    named = [{"detector": "one", "fwhm_px": width, **row} for width in (1.5, 3.0) for row in rows]
    figure = figures_generic.harm_at_recall(named, {("one", 3.0): (0.5, 250.0)})
    assert [len(axes.lines) for axes in figure.axes] == [1, 2]
    assert [axes.get_title() for axes in figure.axes] == ["FWHM 1.5 px", "FWHM 3 px"]


def test_a_star_as_probable_as_the_ray_at_the_threshold_is_harmed():
    """As with votes of Astro-SCRAPPY's settings, of which stars and rays have the same few shares."""
    for votes in range(1, 12):
        share = np.float32(votes) / 11
        pixels = PixelScores()
        pixels.add(np.array([share]), np.array([True]))
        (row,) = harm_at_recall(pixels, np.array([share, share - 0.01], dtype=np.float32), [1.0])
        assert row["harmed"] == 1


def test_the_highest_probability_in_a_core_is_kept_for_stars_that_are_not_saturated():
    kept = {}

    def half(frame):
        prob = np.full(frame.shape, 0.5, np.float32)
        return Detection(prob, frame.saturated, 0.7, "half", frame=frame)

    rows = harm_by_width({"half": half}, [2.0, 3.0], np.random.default_rng(1), fields=1, keep=kept)
    for width in (2.0, 3.0):
        stars = sum(row["stars"] for row in rows if row["snr"] != "saturated" and row["fwhm_px"] == width)
        assert len(kept["half", width]) == stars
        assert (kept["half", width] == 0.5).all()
