import numpy as np
import pytest
from conftest import READ_NOISE, SHAPE, SKY, SMALL, exposures, frames_of, reported, sky_header, star

from crcore.deviation import deviation_score, solve_gain, spectral_deviation
from crcore.errors import InputError
from crcore.frame import Frame
from crcore.labeling import KINDS, LabelingConfig, label_sequence
from crcore.labelled import SOURCE
from crcore.metrics import PixelScores

SPECTRA = KINDS["spectroscopy"]


def by_the_book(stack, read_noise, released):
    """Equations A1 to A3 pixel by pixel: as the released pipeline reads them, or as this package does."""
    n, height, width = stack.shape
    sky = [float(np.median(image)) for image in stack]
    sky_variance = list(sky)
    if not released:  # the scatter of the difference of two exposures is that of both
        for i in range(n):
            pair = stack[i] - stack[i - 1]
            scatter = 1.4826 * np.median(np.abs(pair - np.median(pair)))
            sky_variance[i] = max(sky[i], scatter**2 / 2 - read_noise[i] ** 2)
    expected = np.empty(stack.shape)
    for y in range(height):
        for x in range(width):
            light = [stack[i, y, x] if released else stack[i, y, x] - sky[i] for i in range(n)]
            sigma = [np.sqrt(abs(light[i]) + read_noise[i] ** 2 + sky_variance[i]) for i in range(n)]  # A1
            big_sigma = np.median(sigma) / np.sqrt(n)  # A2
            middle = np.median([stack[i, y, x] - sky[i] for i in range(n)])
            for i in range(n):
                expected[i, y, x] = (stack[i, y, x] - sky[i] - middle) / np.hypot(sigma[i], big_sigma)  # A3
    return expected


@pytest.mark.parametrize("released", [False, True])
@pytest.mark.parametrize("n", [3, 5])
@pytest.mark.parametrize("scatter", [9.0, 30.0])
def test_deviation_score_is_equations_a1_to_a3(released, n, scatter):
    rng = np.random.default_rng(1)
    stack = rng.normal(150.0, scatter, (n, 12, 15))
    stack[1, 2, 3] += 400.0
    stack[2] += 35.0
    stack[0, 0, 0] = -30.0
    read_noise = [7.0, 8.0, 11.0, 5.0, 9.0][:n]
    score = deviation_score(stack.astype("f4"), read_noise, released=released)
    assert score.dtype == np.float32
    np.testing.assert_allclose(score, by_the_book(stack, read_noise, released), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("released", [False, True])
@pytest.mark.parametrize("n", [4, 8])
def test_an_even_number_of_frames_has_the_median_between_its_middle_two(n, released):
    stack = np.random.default_rng(3).normal(150.0, 12.0, (n, 12, 15))
    score = deviation_score(stack.astype("f4"), [7.0] * n, released=released)
    # the root of a mean of squares is taken for the mean of roots: the same to second order
    np.testing.assert_allclose(score, by_the_book(stack, [7.0] * n, released), rtol=5e-3, atol=2e-3)


def test_score_divides_the_noise_of_the_median_by_the_root_of_the_number_of_frames():
    stack = np.zeros((4, 3, 3), "f4")
    stack[0, 1, 1] = 100.0
    # sigma 10 everywhere but sqrt(200) where the charge is; the median of the four is 10
    score = deviation_score(stack, [10.0] * 4, released=True)
    assert score[0, 1, 1] == pytest.approx(100 / np.sqrt(200 + 10**2 / 4))


def test_the_sky_counts_once_and_as_released_twice():
    stack = np.full((3, 9, 9), 400.0, "f4")
    stack[1, 4, 4] += 300.0
    once, twice = (deviation_score(stack, [0.0] * 3, released=p)[1, 4, 4] for p in (False, True))
    assert once == pytest.approx(300 / np.sqrt(300 + 400 + 400 / 3), rel=1e-5)
    assert twice == pytest.approx(300 / np.sqrt(700 + 400 + 800 / 3), rel=1e-5)


def test_noise_that_the_header_does_not_tell_is_measured():
    stack = np.random.default_rng(0).normal(100.0, 50.0, (5, 60, 60)).astype("f4")
    assert deviation_score(stack, [5.0] * 5).std() < 1.0
    assert deviation_score(stack, [5.0] * 5, released=True).std() > 2.0


def test_scores_of_noise_alone_scatter_by_nearly_1():
    score = deviation_score(np.array(exposures(12, np.zeros(SHAPE)), "f4"), [READ_NOISE] * 12)
    assert 0.85 < score.std() < 1.0  # a frame is part of its own median


def test_deviation_score_survives_a_sky_below_zero():
    assert np.isfinite(deviation_score(np.full((3, 5, 5), -400.0, "f4"), [3.0] * 3)).all()


@pytest.mark.parametrize("gain", [0.8, 1.0, 1.5])
def test_gain_solves_the_noise_equation_of_the_sky(gain):
    # data that are `gain` times the electrons: sigma² = gain median + gain² N_R²
    image = gain * exposures(1, np.zeros((200, 200)), sky=900.0)[0]
    assert solve_gain(image, READ_NOISE, np.zeros(image.shape, bool)) == pytest.approx(gain, rel=0.05)
    assert solve_gain(image, 0.0, np.zeros(image.shape, bool)) == pytest.approx(gain, rel=0.12)


def test_gain_does_not_look_at_sources_and_is_1_where_there_is_too_little_sky():
    image = exposures(1, np.zeros((200, 200)), sky=900.0)[0]
    source = np.zeros(image.shape, bool)
    source[:90] = True
    image[:90] = 1e5
    assert solve_gain(image, READ_NOISE, source) == pytest.approx(1.0, rel=0.06)
    source[:196] = True
    assert solve_gain(image, READ_NOISE, source) == 1.0


@pytest.mark.parametrize("gain", [0.8, 1.0, 1.5])
def test_gain_of_a_40_cm_frame_is_solved_from_its_sky(gain):
    images = [gain * image for image in exposures(light=np.zeros((160, 160)), sky=900.0)]
    sequence = label_sequence(frames_of(images, sky_header(TELID="0m4a")), SMALL)
    assert sequence.facts["gains"] == pytest.approx([gain] * 3, rel=0.06)


def test_gain_is_solved_only_for_the_40_cm_class():
    header = sky_header(TELID="1m0a")
    assert label_sequence(frames_of(exposures(), header), SMALL).facts["gains"] == [1.0] * 3


def spectrum(shape=SHAPE, level=3000.0, lines=(20, 55, 90, 120), shift=0.0):
    """A curved order of a bright continuum with emission lines, in electrons."""
    rows, columns = np.indices(shape)
    trace = np.exp(-0.5 * ((rows - 64 - 4 * np.sin(columns / 30)) / 4.0) ** 2)
    emission = sum(np.exp(-0.5 * ((columns - x - shift) / 1.5) ** 2) for x in lines)
    return level * trace * (1 + 2 * emission)


def spectra(light, fluxes=(1.0, 1.0, 1.0), seed=0):
    rng = np.random.default_rng(seed)
    lights = light if isinstance(light, list) else [light] * len(fluxes)
    return [rng.poisson(f * s + 5) + rng.normal(0, READ_NOISE, s.shape) for f, s in zip(fluxes, lights, strict=True)]


@pytest.mark.parametrize("fluxes", [(1.0, 1.0, 1.0), (1.0, 0.8, 1.2), (1.2, 1.0, 0.8), (1.0, 0.9, 0.8, 0.7, 1.1)])
@pytest.mark.parametrize("seed", [0, 1])
def test_spectra_of_different_flux_give_no_labels(fluxes, seed):
    sequence = label_sequence(frames_of(spectra(spectrum(), fluxes, seed)), SPECTRA)
    assert not sequence.cr.any()
    assert (sequence.ignore > 0).mean() < 0.01


def test_flux_that_changes_along_the_spectrum_gives_no_labels():
    shape = (128, 512)
    light, tilt = spectrum(shape, lines=(40, 150, 260, 400, 480)), 1 + 0.1 * np.linspace(-1, 1, shape[1])
    sequence = label_sequence(frames_of(spectra([light, light * tilt, light / tilt])), SPECTRA)
    assert not sequence.cr.any()
    assert (sequence.ignore > 0).mean() < 0.01


@pytest.mark.parametrize("fluxes", [(1.0, 1.0, 1.0), (1.0, 0.8, 1.2)])
def test_rays_on_a_bright_continuum_are_found(fluxes):
    images, scores = spectra(spectrum(), fluxes), PixelScores()
    rng = np.random.default_rng(4)
    truth = np.zeros((3, *SHAPE), bool)
    for k in range(18):
        y, x = rng.integers(56, 72), rng.integers(10, 130)
        truth[k % 3, [y, y + 1, y + 2], [x, x + 1, x + 1]] = True
    for image, mask in zip(images, truth, strict=True):
        image[mask] += 2500.0
    sequence = label_sequence(frames_of(images), SPECTRA)
    for cr, mask, ignore in zip(sequence.cr, truth, sequence.ignore, strict=True):
        scores.add(cr.astype("f4"), mask, ignore == 0)
    at = scores.at_threshold(0.5)
    assert scores.positives > 40
    assert at["recall"] > 0.95
    assert at["precision"] > 0.9


def test_spectrum_that_has_changed_is_ignored_rather_than_labelled():
    images = spectra([spectrum(), spectrum(), spectrum(shift=3.0)])
    sequence = label_sequence(frames_of(images), SPECTRA)
    for x in (20, 55, 90, 120):
        middle = round(64 + 4 * np.sin(x / 30))
        assert (sequence.ignore[2, middle, x - 1 : x + 4] & SOURCE).all()
    assert sequence.cr.sum() < 10
    assert (sequence.ignore > 0).mean() < 0.12


def test_saturated_pixels_of_a_spectrum_are_ignored_in_their_exposure():
    images = spectra(spectrum())
    images[1][60:64, 50:53] = 70_000.0
    frames = frames_of(images)
    score, ignored = spectral_deviation(np.array(images, "f4"), np.full(3, READ_NOISE), [None, 60_000.0, None])
    assert ignored[1, 57:67, 47:56].all()
    assert not ignored[[0, 2], 60:64, 50:53].any()
    assert score[1, 61, 51] > 100
    frames[1] = Frame(images[1], read_noise=READ_NOISE, saturation=60_000.0, name="full")
    assert not label_sequence(frames, SPECTRA).cr[1, 57:67, 47:56].any()


def test_spectra_are_never_moved_nor_rejected_for_their_sky():
    images = spectra(spectrum(), (1.0, 0.5, 1.0))
    frames = [
        Frame(f.data, read_noise=READ_NOISE, header=sky_header(20.0 * i), name=f.name)
        for i, f in enumerate(frames_of(images))
    ]
    facts = label_sequence(frames, SPECTRA).facts
    assert facts["alignment"] == ("none",) * 3
    assert facts["left_out"] == {}


GEMINI = KINDS["gemini"]


def test_gemini_labels_have_no_periphery():
    images = exposures(light=np.zeros(SHAPE))
    images[1][60, 60:63] += 60 * np.sqrt(SKY + READ_NOISE**2)
    images[1][60, 63:66] += 4.2 * np.sqrt(SKY + READ_NOISE**2)  # bright enough for appendix A's periphery
    row = label_sequence(frames_of(images), GEMINI).cr[1, 60]
    np.testing.assert_array_equal(np.flatnonzero(row), [60, 61, 62])
    assert label_sequence(frames_of(images), LabelingConfig(border_px=0)).cr[1, 60, 60:66].all()


def test_gemini_labels_keep_single_pixels_and_have_no_border():
    images = exposures(light=np.zeros(SHAPE))
    images[1][2, 3] += 1000.0
    sequence = label_sequence(frames_of(images), GEMINI)
    assert np.argwhere(sequence.cr[1]).tolist() == [[2, 3]]
    assert not sequence.ignore.any()


def test_gemini_threshold_is_5_sigma_of_the_noise_as_measured():
    rng = np.random.default_rng(0)
    images = [rng.normal(SKY, 60.0, SHAPE) for _ in range(3)]  # much more noise than the header says
    images[1][60, 60] = SKY + 250.0
    images[1][80, 60] = SKY + 700.0
    cr = label_sequence(frames_of(images), GEMINI).cr
    assert np.argwhere(cr[1]).tolist() == [[80, 60]]
    assert not cr[[0, 2]].any()


def test_gemini_sources_are_ignored():
    images = exposures(light=star(70, 60, 9000.0))
    images[1][60:62, 70] += 20_000.0
    sequence = label_sequence(frames_of(images), GEMINI)
    assert not sequence.cr.any()
    assert sequence.ignore[1, 60, 70] == SOURCE


def test_unknown_kind_is_reported():
    with pytest.raises(InputError, match="'nres' is unknown: use one of imaging, spectroscopy, gemini"):
        LabelingConfig(kind="nres")


def test_spectra_without_read_noise_are_reported():
    frames = frames_of(spectra(spectrum()))
    frames[2] = Frame(frames[2].data, name="silent")
    assert reported(frames, SPECTRA).startswith("silent: no RDNOISE")
