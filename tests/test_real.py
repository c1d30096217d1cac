"""Real exposures, where there are any: set CRCORE_DATA to a folder with lco-0m4 and truth in it."""

import warnings
from pathlib import Path

import pytest

from crcore import dataset, labeling
from crcore.detection import NetworkDetector
from crcore.frame import Frame
from crcore.metrics import PixelScores
from crcore.paths import user_data
from crcore.rivals import ReleasedCosmicConn
from crcore.sequences import find_sequences


@pytest.fixture(scope="module")
def sequences():
    folder = user_data()
    if folder is None or not (Path(folder) / "lco-0m4").is_dir():
        pytest.skip("no real LCO sequences: set CRCORE_DATA to a folder with lco-0m4/ and truth/")
    groups, _ = find_sequences(Path(folder) / "lco-0m4", min_exposure_s=5)
    chosen = [g for g in groups if "0389" in g[0].name or "0333" in g[0].name]
    if len(chosen) != 2:
        pytest.skip("the real LCO sequences are other ones than these tests know")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # old headers
        return [
            labeling.label_sequence(
                [Frame.read(p) for p in g], truth=[dataset.find_reference(folder, p.name) for p in g]
            )
            for g in chosen
        ]


def test_labels_agree_with_the_reference(sequences):
    use = [(s.ignore == 0) & (s.truth != 2) for s in sequences]
    found = sum(((s.cr > 0) & u).sum() for s, u in zip(sequences, use, strict=True))
    true = sum(((s.truth == 1) & u).sum() for s, u in zip(sequences, use, strict=True))
    both = sum(((s.cr > 0) & (s.truth == 1) & u).sum() for s, u in zip(sequences, use, strict=True))
    assert both / true > 0.90
    assert both / found > 0.85


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
