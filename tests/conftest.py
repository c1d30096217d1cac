import matplotlib
import pytest

matplotlib.use("Agg")


@pytest.fixture(scope="session")
def tiny_dataset(tmp_path_factory):
    """Three small labelled sequences, one for each split."""
    from crcore.dataset import SimulationConfig, simulate_dataset
    from crcore.labeling import LabelingConfig

    folder = tmp_path_factory.mktemp("tiny")
    config = SimulationConfig(
        seed=5, shape=(160, 160), exposure_s=(600.0, 900.0), rate_factor=20.0, sequences={"sinistro": (1, 1, 1)}
    )
    simulate_dataset(folder, config, LabelingConfig(border_px=16))
    return folder


@pytest.fixture(scope="session")
def tiny_recipe():
    from crcore.networks import NetworkConfig
    from crcore.training import Recipe

    return Recipe(
        network=NetworkConfig(width=8), stamp_px=32, batch=2, epochs=4, samples_per_epoch=4, alpha_epochs=2, seed=3
    )
