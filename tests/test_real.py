"""Real exposures, where there are any: set CRCORE_DATA to a folder with lco-0m4, lowell-nasa42 and truth in it."""

import warnings
from pathlib import Path

import pytest

from crcore import dataset
from crcore.detection import NetworkDetector
from crcore.label_files import label_files
from crcore.label_quality import summary
from crcore.labelled import Sequence
from crcore.metrics import PixelScores
from crcore.paths import user_data
from crcore.rivals import ReleasedCosmicConn
from crcore.sequences import find_sequences


def runs_of(name):
    """The folder of real data, and the runs of visits in one folder of it."""
    folder = user_data()
    if folder is None or not (Path(folder) / name).is_dir():
        pytest.skip(f"no real exposures: set CRCORE_DATA to a folder with {name}/ and truth/")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # old headers
        return folder, find_sequences(Path(folder) / name, min_exposure_s=5)[0]


def label(folder, runs):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        labelled = label_files(runs, reference=lambda path: dataset.find_reference(folder, path.name))
        results = [result for _, result in labelled]
    errors = [r for r in results if not isinstance(r, Sequence)]
    assert errors == []
    return results


@pytest.fixture(scope="module")
def sequences():
    folder, runs = runs_of("lco-0m4")
    chosen = [r for r in runs if "0389" in r[0].name or "0333" in r[0].name]
    if len(chosen) != 2:
        pytest.skip("the real LCO sequences are other ones than these tests know")
    return label(folder, chosen)


def recall_and_purity(sequences):
    found = summary(sequences)
    assert found["true_pixels"] > 200
    return found["recall"], found["purity"]


def test_labels_of_lco_frames_agree_with_the_reference(sequences):
    recall, purity = recall_and_purity(sequences)
    assert recall >= 0.90
    assert purity >= 0.85


def test_labels_of_lowell_frames_agree_with_the_reference():
    folder, runs = runs_of("lowell-nasa42")
    if [len(run) for run in runs] != [12]:
        pytest.skip("the real Lowell frames are other ones than this test knows")
    (sequence,) = label(folder, runs)
    assert sorted({int((t != 2).any()) for t in sequence.truth}) == [0, 1]  # only some have a reference
    recall, purity = recall_and_purity([sequence])
    assert recall >= 0.90
    assert purity >= 0.85


@pytest.mark.parametrize(("make", "least"), [(ReleasedCosmicConn, 0.99), (NetworkDetector, 0.95)])
def test_rays_are_found_at_one_false_pixel_in_ten_thousand(sequences, make, least):
    scores = PixelScores()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        detector = make()
        for s in sequences[:1]:
            for i in range(3):
                scores.add(detector(s.frame(i)).prob, s.truth[i] == 1, (s.ignore[i] == 0) & (s.truth[i] != 2))
    assert scores.tpr_at_fpr(1e-4) > least
