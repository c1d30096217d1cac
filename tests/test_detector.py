from dataclasses import replace

import numpy as np
import pytest

from crcore.frame import Frame
from crcore.instruments import CAMERAS
from crcore.simulate.detector import Detector, expose, random_detector, saturation_level

SINISTRO = CAMERAS["sinistro"]
QUIET = replace(SINISTRO, read_noise_e=0.0, gain_e_per_adu=1.0, saturation_e=1000.0, amplifiers=(1, 1))
FOUR = (slice(0, 100), slice(100, 200))


def chip(shape, camera=QUIET, **changes):
    """A chip without a blemish, but for the changes."""
    parts = {
        "read_noise_e": np.full(shape, camera.read_noise_e, "f4"),
        "offset_e": np.zeros(shape, "f4"),
        "sensitivity": np.ones(shape, "f4"),
        "flat": np.ones(shape, "f4"),
        "hot_e_per_s": np.zeros(shape, "f4"),
        "bad": np.zeros(shape, bool),
    }
    return Detector(camera, **(parts | changes))


def exposed(detector, light=0.0, charge=0.0, seed=1, exposure_s=0.0):
    shape = detector.flat.shape
    return expose(
        np.full(shape, light),
        np.zeros(shape, "f4") + np.float32(charge),
        detector,
        np.random.default_rng(seed),
        exposure_s=exposure_s,
    )


def drawn(camera=SINISTRO, shape=(200, 200), seed=1):
    return random_detector(camera, shape, np.random.default_rng(seed))


def vignetted(shape, seed=0):
    """The first chip from ``seed`` whose corners lose more than a tenth."""
    return next(d for s in range(seed, seed + 100) if (d := drawn(shape=shape, seed=s)).flat.min() < 0.9)


def test_variance_of_a_flat_is_poisson_plus_read_noise_plus_quantisation():
    data = exposed(chip((250, 250), SINISTRO), 400.0)
    variance = 400.0 + SINISTRO.read_noise_e**2 + SINISTRO.gain_e_per_adu**2 / 12
    assert data.var() == pytest.approx(variance, rel=4 * np.sqrt(2 / data.size))
    assert data.mean() == pytest.approx(400.0, abs=4 * np.sqrt(variance / data.size))


def test_variance_without_light_is_the_read_noise():
    data = exposed(chip((250, 250), SINISTRO))
    assert data.std() == pytest.approx(
        np.hypot(SINISTRO.read_noise_e, SINISTRO.gain_e_per_adu / np.sqrt(12)), rel=0.012
    )
    assert data.mean() == pytest.approx(0.0, abs=0.15)


@pytest.mark.parametrize("amplifiers", [(1, 1), (1, 2), (2, 2), (1, 4)])
def test_every_amplifier_has_its_own_noise_and_offset(amplifiers):
    detector = drawn(replace(SINISTRO, amplifiers=amplifiers), (120, 160))
    n = amplifiers[0] * amplifiers[1]
    assert len(np.unique(detector.read_noise_e)) == len(np.unique(detector.offset_e)) == n
    assert (np.abs(detector.read_noise_e / SINISTRO.read_noise_e - 1) <= 0.0701).all()
    for level in (detector.read_noise_e, detector.offset_e):
        rows = np.array_split(level, amplifiers[0], axis=0)
        blocks = [b for row in rows for b in np.array_split(row, amplifiers[1], axis=1)]
        assert all(b.min() == b.max() for b in blocks)


def test_measured_noise_and_level_of_each_amplifier_are_those_of_the_detector():
    camera = replace(SINISTRO, gain_e_per_adu=0.1)
    detector = drawn(camera)
    stack = np.array([exposed(detector, seed=s) for s in range(8)])
    for rows in FOUR:
        for columns in FOUR:
            noise, offset = detector.read_noise_e[rows, columns][0, 0], detector.offset_e[rows, columns][0, 0]
            part = stack[:, rows, columns] * detector.flat[rows, columns]
            assert part.std() == pytest.approx(noise, rel=0.012)
            assert np.median(part) == pytest.approx(offset, abs=0.15)
    assert np.ptp(detector.read_noise_e) > 0.02 * SINISTRO.read_noise_e


def test_what_the_overscan_leaves_is_a_tenth_of_the_read_noise():
    levels = [level for s in range(150) for level in np.unique(drawn(shape=(8, 8), seed=s).offset_e)]
    assert np.std(levels) == pytest.approx(0.1 * SINISTRO.read_noise_e, rel=0.12)
    assert np.mean(levels) == pytest.approx(0.0, abs=0.12)


def test_vignetting_is_divided_out_and_raises_the_noise():
    flat = np.ones((200, 200), "f4")
    flat[:, 100:] = 0.5
    data = exposed(chip(flat.shape, replace(SINISTRO, amplifiers=(1, 1)), flat=flat, sensitivity=flat), 1000.0)
    bright, dark = data[:, :100], data[:, 100:]
    assert bright.mean() == pytest.approx(1000, rel=2e-3)
    assert dark.mean() == pytest.approx(1000, rel=2e-3)
    assert bright.var() == pytest.approx(1000 + 64 + 2.3**2 / 12, rel=0.05)
    assert dark.var() == pytest.approx((500 + 64 + 2.3**2 / 12) / 0.25, rel=0.05)


def test_corners_are_dark_and_the_middle_is_not():
    flats = [drawn(shape=(101, 121), seed=s).flat for s in range(40)]
    for flat in flats:
        assert flat[50, 60] == flat.max() == 1
        np.testing.assert_allclose(flat, flat[::-1, ::-1], rtol=1e-6)
        assert flat.min() == flat[0, 0] >= 0.75
    plain = sum(flat.min() == 1 for flat in flats)
    assert 8 < plain < 32


def test_noise_in_corners_is_higher_in_the_data_too():
    detector = vignetted((120, 120))
    stack = np.array([exposed(detector, 300.0, seed=s) for s in range(60)])
    corner = np.concatenate(
        [stack[:, a, b].ravel() for a in (np.s_[:12], np.s_[-12:]) for b in (np.s_[:12], np.s_[-12:])]
    )
    middle = stack[:, 54:66, 54:66]
    assert corner.mean() == pytest.approx(300.0, abs=1.5)
    expected = detector.noise_e(300.0)
    assert corner.std() == pytest.approx(np.sqrt(np.mean(expected[:12, :12] ** 2)), rel=0.05)
    assert corner.std() > 1.02 * middle.std()


def test_noise_is_what_is_measured():
    detector = vignetted((60, 60), seed=30)
    shape = detector.flat.shape
    light = np.linspace(50, 3000, 60)[:, None] + np.zeros(shape)
    rng = np.random.default_rng(3)
    stack = np.array([expose(light, np.zeros(shape, "f4"), detector, rng) for _ in range(200)])
    rounding = (SINISTRO.gain_e_per_adu / detector.flat) ** 2 / 12
    ratio = stack.var(axis=0, ddof=1) / (detector.noise_e(light) ** 2 + rounding)
    good = (detector.sensitivity == detector.flat) & (detector.hot_e_per_s == 0)
    assert np.mean(ratio[good]) == pytest.approx(1.0, abs=0.01)
    assert np.std(ratio[good]) == pytest.approx(np.sqrt(2 / 199), rel=0.1)


def test_adu_are_whole_before_the_flat():
    flat = np.full((60, 60), 0.83, "f4")
    data = exposed(chip(flat.shape, SINISTRO, flat=flat, sensitivity=flat), 300.0)
    adu = data * flat / SINISTRO.gain_e_per_adu
    np.testing.assert_allclose(adu, np.round(adu), atol=1e-3)
    assert len(np.unique(np.round(adu))) > 10
    after = data / SINISTRO.gain_e_per_adu
    assert np.abs(after - np.round(after)).mean() > 0.1


def test_charge_of_a_ray_is_added_as_it_is():
    charge = np.zeros((5, 5), "f4")
    charge[1, 2] = 700.0
    np.testing.assert_array_equal(expose(np.zeros((5, 5)), charge, chip((5, 5)), np.random.default_rng(6)), charge)


def test_vignetting_takes_no_charge_from_a_ray():
    flat = np.full((5, 5), 0.5, "f4")
    assert (exposed(chip((5, 5), flat=flat, sensitivity=flat), charge=100.0) == 200.0).all()


def test_hot_pixels_grow_with_time_and_have_shot_noise():
    camera = replace(QUIET, saturation_e=1e5)
    detector = chip((200, 200), camera, hot_e_per_s=np.full((200, 200), 4.0, "f4"))
    data = exposed(detector, exposure_s=100.0)
    assert data.mean() == pytest.approx(400, rel=0.005)
    assert data.var() == pytest.approx(400, rel=0.05)
    assert exposed(detector, exposure_s=200.0).mean() == pytest.approx(800, rel=0.005)
    assert not exposed(detector).any()


@pytest.fixture(scope="module")
def blemished():
    """A chip with dead and hot columns, and two exposures of it."""
    detector = next(
        d
        for s in range(100)
        if ((d := drawn(shape=(600, 1500), seed=s)).hot_e_per_s > 0).sum() > 200
        and (d.sensitivity / d.flat < 0.5).sum() > 200
        and ((d.hot_e_per_s > 2.0) & (d.sensitivity == d.flat)).sum() > 5
    )
    return detector, [exposed(detector, 3000.0, seed=s, exposure_s=300.0) for s in (5, 6)]


def test_dead_pixels_and_columns_are_dark_in_every_exposure(blemished):
    detector, images = blemished
    dead = detector.sensitivity < detector.flat
    column = np.flatnonzero(dead.sum(axis=0) > 50)
    assert len(column) > 0
    below = np.flatnonzero(dead[:, column[0]])
    assert (np.diff(below) == 1).all()
    assert below[-1] == 599  # the charge of a column is read past what is broken
    noise = detector.noise_e(3000.0)
    deep = detector.sensitivity < 0.6 * detector.flat
    for image in images:
        assert (image[deep] < 3000 - 6 * noise[deep]).all()
        np.testing.assert_allclose(
            image[dead & (detector.hot_e_per_s == 0)],
            (3000 * detector.sensitivity / detector.flat)[dead & (detector.hot_e_per_s == 0)],
            atol=400,
        )


def test_hot_pixels_and_columns_are_bright_in_every_exposure(blemished):
    detector, images = blemished
    hot = (detector.hot_e_per_s * 300 > 600) & (detector.sensitivity == detector.flat)
    assert hot.sum() > 5
    noise = detector.noise_e(3000.0)
    for image in images:
        assert (image[hot] > 3000 + 4 * noise[hot]).all()
    warm = (detector.hot_e_per_s > 0) & (detector.sensitivity == detector.flat)
    excess = np.mean(images, axis=0)[warm] - 3000
    np.testing.assert_allclose(excess.sum(), (300 * detector.hot_e_per_s / detector.flat)[warm].sum(), rtol=0.05)


def lone_hot(seed):
    """Rates of a chip's hot pixels, without its hot columns, in units of the read noise a second."""
    rates = drawn(shape=(1000, 1000), seed=seed).hot_e_per_s / SINISTRO.read_noise_e
    rates[:, (rates > 0).sum(axis=0) > 20] = 0
    return rates


def test_good_pixels_are_most():
    shares = [lone_hot(seed).astype(bool).mean() for seed in range(20)]
    assert 1 / 60_000 < min(shares) < 1 / 20_000
    assert 1 / 4_000 < max(shares) < 1 / 1_800


def test_the_hotter_a_pixel_the_rarer_it_is():
    rates = np.concatenate([lone_hot(seed).ravel() for seed in range(30)])
    rates = rates[rates > 0]
    assert 0.003 <= rates.min() < 0.0031
    assert 1.0 < rates.max() <= 1.6
    counts = np.array([(rates > rate).sum() for rate in (0.004, 0.01, 0.025)])
    np.testing.assert_allclose(counts[1:] / counts[:-1], 2.5**-0.75, rtol=0.1)


def test_the_bad_pixel_mask_knows_a_part_of_the_blemishes_and_nothing_else():
    known, there = 0, 0
    shares = []
    for seed in range(30):
        detector = drawn(shape=(600, 600), seed=seed)
        blemish = (detector.sensitivity != detector.flat) | (detector.hot_e_per_s > 0)
        assert not (detector.bad & ~blemish).any()
        known, there = known + detector.bad.sum(), there + blemish.sum()
        if blemish.sum() > 100:
            shares.append(detector.bad.sum() / blemish.sum())
    assert 0 < known < there
    assert min(shares) == 0
    assert max(shares) == pytest.approx(0.95, abs=0.04)


def test_a_seed_gives_the_same_chip_and_another_does_not():
    one, two, other = drawn(seed=4), drawn(seed=4), drawn(seed=5)
    for name in ("read_noise_e", "offset_e", "sensitivity", "flat", "hot_e_per_s", "bad"):
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name))
    assert one.crosstalk == two.crosstalk
    assert not np.array_equal(one.read_noise_e, other.read_noise_e)


@pytest.mark.parametrize(
    ("amplifiers", "ghosts"),
    [
        ((1, 1), []),
        ((1, 2), [(3, 34)]),
        ((2, 2), [(3, 34), (36, 5), (36, 34)]),
        ((1, 4), [(3, 14), (3, 25), (3, 34)]),
    ],
)
def test_crosstalk_appears_at_the_mirror_places(amplifiers, ghosts):
    camera = replace(QUIET, amplifiers=amplifiers, saturation_e=1e5)
    charge = np.zeros((40, 40), "f4")
    charge[3, 5] = 5e4
    data = exposed(chip(charge.shape, camera, crosstalk=1e-3), charge=charge)
    assert data[3, 5] == 5e4
    data[3, 5] = 0
    assert data[data != 0].tolist() == [50.0] * len(ghosts)
    assert list(map(tuple, np.argwhere(data).tolist())) == ghosts


def test_only_bright_pixels_talk_across():
    camera = replace(QUIET, amplifiers=(1, 2), saturation_e=1e5)
    detector = chip((4, 8), camera, crosstalk=1e-3)
    charge = np.zeros((4, 8), "f4")
    charge[1, 1] = 9e3
    assert np.count_nonzero(exposed(detector, charge=charge)) == 1


def test_chips_with_one_amplifier_have_no_crosstalk():
    one, many = replace(SINISTRO, amplifiers=(1, 1)), replace(SINISTRO, amplifiers=(1, 2))
    assert drawn(one).crosstalk == 0
    assert all(1e-5 <= drawn(many, (8, 8), seed=s).crosstalk <= 2e-4 for s in range(20))


def column(*charge):
    """One column of charge through a noiseless camera with a full well of 1000 electrons."""
    charge = np.array([[0.0, c, 0.0] for c in charge], dtype="f4")
    data = exposed(chip(charge.shape), charge=charge)
    assert not data[:, [0, 2]].any()
    return data[:, 1].tolist()


def test_charge_below_the_full_well_stays():
    assert column(0, 1000, 999, 0) == [0, 1000, 999, 0]


def test_excess_charge_bleeds_half_up_and_half_down():
    assert column(0, 0, 0, 3400, 0, 0, 0) == [0, 200, 1000, 1000, 1000, 200, 0]


def test_bleeding_fills_what_is_left_of_the_next_pixels():
    assert column(400, 400, 2200, 400, 400) == [400, 1000, 1000, 1000, 400]


def test_bleeding_passes_over_full_pixels_and_keeps_all_charge():
    full = column(*[0] * 10, 4000, 2500, 1000, 6000, *[0] * 10)
    assert sum(full) == 13500
    assert max(full) == 1000


def test_charge_that_bleeds_over_the_edge_is_lost():
    assert column(3000, 0, 0, 0) == [1000, 1000, 0, 0]


def test_pixels_at_the_full_well_are_saturated_in_the_frame():
    shape = (64, 16)
    charge = np.zeros(shape, "f4")
    charge[32] = 30 * SINISTRO.saturation_e
    data = exposed(chip(shape, SINISTRO), 100.0, charge)
    frame = Frame(data, saturation=saturation_level(SINISTRO))
    assert frame.saturated[20:45].all()
