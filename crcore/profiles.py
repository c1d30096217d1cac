"""The three sizes of the paper's experiments: ``config/{smoke,laptop,paper}.yaml``."""

from dataclasses import dataclass, field

from crcore.config import from_mapping, read_yaml
from crcore.errors import InputError
from crcore.generic_study import GenericStudyConfig
from crcore.labeling import LabelingConfig
from crcore.loss_study import LossStudyConfig
from crcore.paths import CONFIG, Build
from crcore.recipe import Recipe
from crcore.simulate.datasets import SimulationConfig

__all__ = ["Profile", "load_profile", "profile_names"]


@dataclass(frozen=True)
class EvaluationConfig:
    """What notebooks 06 to 09 compare.

    Attributes
    ----------
    sigclip_steps : int
        Settings in Astro-SCRAPPY's sweep from 1 to 20.
    every_rival : bool
        Rivals at one setting and networks for other cameras too (`crcore.contenders.contenders`).
    max_real_sequences : int
        At most this many sequences of ``CRCORE_DATA`` are used; 0 for all.
    judged_real_per_camera : int
        At most this many of each camera are judged by every detector, the first by name; 0 for all.
    min_real_exposure_s : float
        Shorter real exposures are left out. The paper asks for 100 s.
    retrained : tuple of str
        Curves of notebook 04 whose networks are judged on LCO; those that the profile has.
    """

    sigclip_steps: int = 10
    every_rival: bool = True
    max_real_sequences: int = 0
    judged_real_per_camera: int = 0
    min_real_exposure_s: float = 5.0
    retrained: tuple[str, ...] = ("Cosmic-CoNN", "Cosmic-CoNN, prior bias", "deepCR")


@dataclass(frozen=True)
class Profile:
    """Every number that a profile changes.

    Attributes
    ----------
    name : str
    simulation : crcore.simulate.datasets.SimulationConfig
    labeling : crcore.labeling.LabelingConfig
    training : dict of str to crcore.recipe.Recipe
        The curves of Fig 5, by name.
    evaluation : EvaluationConfig
    loss_study : crcore.loss_study.LossStudyConfig
        Notebook 03.
    unseen : dict
        Cameras that no network was trained on and their numbers of test sequences, for Table 3.
    hst, spectra : crcore.simulate.datasets.SimulationConfig
        Test sequences of notebooks 08 (for each of the paper's three kinds of field) and 09, and one or more for
        validation, on which Astro-SCRAPPY is tuned.
    generic : crcore.generic_study.GenericStudyConfig
        Notebook 11.
    """

    name: str
    simulation: SimulationConfig
    labeling: LabelingConfig = LabelingConfig()
    training: dict = field(default_factory=dict)
    evaluation: EvaluationConfig = EvaluationConfig()
    loss_study: LossStudyConfig = LossStudyConfig()
    unseen: dict = field(default_factory=dict)
    hst: SimulationConfig = SimulationConfig()
    spectra: SimulationConfig = SimulationConfig()
    generic: GenericStudyConfig = field(default_factory=GenericStudyConfig)

    @property
    def build(self):
        """Paths of this profile's products."""
        return Build(self.name)


def profile_names():
    """Names of the profiles there are."""
    return sorted(p.stem for p in CONFIG.glob("*.yaml"))


def load_profile(name):
    """Read ``config/<name>.yaml``.

    Raises
    ------
    InputError
        For an unknown profile or key.
    """
    path = CONFIG / f"{name}.yaml"
    if not path.exists():
        raise InputError(f"profile {name!r} is unknown: use one of {', '.join(profile_names())}")
    content = dict(read_yaml(path))
    recipes = content.pop("training", {})
    profile = from_mapping(Profile, {"name": name, **content}, str(path))
    training = {key: from_mapping(Recipe, value, f"{path}: training: {key}") for key, value in recipes.items()}
    object.__setattr__(profile, "training", training)
    return profile
