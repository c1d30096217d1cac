import numpy as np
import pytest

from crcore import Frame, InputError
from crcore.dataset import read_sequence
from crcore.detection import Detection
from crcore.injection import inject, inject_dataset
from crcore.labelled import NO_DATA, SOURCE, UNDECIDED
from crcore.release import labelled_files


def blind(frame):
    return Detection(np.zeros(frame.shape, np.float32), np.zeros(frame.shape, bool), 0.5, "blind", frame=frame)


@pytest.fixture
def frame():
    rng = np.random.default_rng(3)
    y, x = np.mgrid[:200, :240]
    light = 300 + 8000 * np.exp(-((x - 120) ** 2 + (y - 90) ** 2) / 18)
    bad = np.zeros(light.shape, bool)
    bad[10, 10] = True
    return Frame(rng.poisson(light).astype(np.float32), read_noise=5.0, saturation=60_000.0, bad=bad, name="mine")


def test_what_is_put_in_is_what_is_labelled(frame):
    made = inject(frame, np.random.default_rng(1), detector=blind)
    added = made.data[0] - frame.data
    assert made.cr.sum() > 30
    assert (added[made.cr[0] > 0] > 1.0 * np.sqrt(300)).all()  # 2.5 sigma less photon noise
    assert (added[(made.cr[0] == 0) & (made.ignore[0] & UNDECIDED == 0)] < 2 * np.sqrt(325)).all()
    assert made.ignore[0, 90, 120] & SOURCE
    assert made.ignore[0, 10, 10] == NO_DATA
    assert made.judged(0)[90, 120] or made.ignore[0, 90, 120] & UNDECIDED


def test_rays_that_were_there_are_undecided(frame):
    def knows(frame):
        prob = np.zeros(frame.shape, np.float32)
        prob[50, 60] = 0.9
        return Detection(prob, np.zeros(frame.shape, bool), 0.5, "knows", frame=frame)

    made = inject(frame, np.random.default_rng(1), detector=knows)
    around = made.ignore[0, 48:53, 58:63]
    assert ((around & UNDECIDED) > 0).all()
    assert not made.cr[0, 48:53, 58:63].any()


def test_recorded_rays_may_stand_in(frame):
    made = inject(frame, np.random.default_rng(2), detector=blind, footprints=[np.full((1, 4), 900.0)], one_in=2000)
    added = made.data[0] - frame.data
    assert 850 < np.median(added[made.cr[0] > 0]) < 2000


def test_a_handful_of_frames_is_a_dataset(frame, tmp_path):
    paths = inject_dataset([frame, frame, frame], tmp_path, np.random.default_rng(4), detector=blind, times=2)
    assert len(paths) == 5
    assert len(labelled_files(tmp_path, "train")) == 4
    assert len(labelled_files(tmp_path, "valid")) == 1
    assert read_sequence(paths[1]).frame(0).saturation == 60_000
    assert not read_sequence(paths[0]).simulated


def test_files_of_another_injection_are_not_mixed_in(frame, tmp_path):
    inject_dataset([frame] * 3, tmp_path, np.random.default_rng(1), detector=blind, times=2)
    half = tmp_path / "train" / "masked_fits" / ".part-injected.fits"
    half.write_text("of a killed call")
    assert half not in labelled_files(tmp_path, "train")
    inject_dataset([frame] * 3, tmp_path, np.random.default_rng(2), detector=blind, times=2)  # the same files anew
    before = sorted(tmp_path.rglob("*.fits"))
    with pytest.raises(InputError, match="2 files of an earlier injection"):
        inject_dataset([frame] * 2, tmp_path, np.random.default_rng(1), detector=blind, times=2)
    assert sorted(tmp_path.rglob("*.fits")) == before


def test_one_frame_is_too_few(frame, tmp_path):
    with pytest.raises(InputError, match="two are needed"):
        inject_dataset([frame], tmp_path, np.random.default_rng(4), detector=blind)
