import numpy as np
import pytest

from crcore import InputError, figures_generic
from crcore.detection import Detection
from crcore.harm_objects import OBJECTS, Objects, draw, harm_by_object
from crcore.preprocess import sky_and_noise


@pytest.mark.parametrize("name", OBJECTS)
def test_what_is_drawn_is_where_it_says(name):
    """Frames hold more light at the places of their objects than a few pixels away."""
    there, beside, n = [], [], 0
    for seed in range(4):
        frame, objects = draw(name, np.random.default_rng(seed), side=256)
        sky, noise = sky_and_noise(np.where(frame.bad, 0, frame.data), bad=frame.bad if frame.bad.any() else None)
        bright = (frame.data - sky) / noise
        y, x = np.round(objects.y).astype(int), np.round(objects.x).astype(int)
        inside = (y > 8) & (y < 247) & (x > 8) & (x < 247)
        n += len(objects)
        there += list(bright[y[inside], x[inside]])
        beside += list(bright[y[inside] + 7, x[inside] + 7])
    assert n >= 10
    assert np.median(there) > max(np.median(beside), 0) + 0.5


def test_objects_are_harmed_by_flags_within_their_radius():
    objects = Objects(np.array([10.0, 14.0, 40.0]), np.array([10.0, 10.0, 30.0]), np.array([0, 0, 1]), radius_px=2.0)
    mask = np.zeros((50, 50), dtype=bool)
    mask[30, 43] = True  # 3 px away
    assert not objects.harmed(mask).any()
    mask[11, 15] = True  # beside the second place of the first object
    assert objects.harmed(mask).tolist() == [True, False]
    mask[0, 0] = True
    assert Objects(np.array([-1.0]), np.array([0.0]), np.array([0])).harmed(mask).tolist() == [True]
    assert len(Objects(np.zeros(0), np.zeros(0), np.zeros(0, dtype=int))) == 0


def test_all_detectors_see_the_same_objects_and_flags_are_counted():
    def nothing(frame):
        zero = np.zeros(frame.shape, np.float32)
        return Detection(zero, zero > 0, 0.5, "nothing", frame=frame)

    def everything(frame):
        one = np.ones(frame.shape, np.float32)
        return Detection(one, one < 0, 0.5, "everything", frame=frame)

    detectors = {"nothing": nothing, "everything": everything}
    rows = harm_by_object(detectors, np.random.default_rng(1), fields=1, side=128, names=("stars", "asteroids"))
    assert len(rows) == 4
    for row in rows:
        assert row["n"] > 0
        assert row["harmed"] == (row["n"] if row["detector"] == "everything" else 0)
    figure = figures_generic.harm_objects(rows)
    assert len(figure.axes[0].lines) == 2
    assert list(figure.axes[0].lines[1].get_xdata()) == [1000, 1000]


def test_an_unknown_object_is_named():
    with pytest.raises(InputError, match="comet"):
        draw("comet", np.random.default_rng(1))
