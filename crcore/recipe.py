"""Everything that decides what a training run gives, apart from its data: a dozen lines of YAML."""

from dataclasses import asdict, dataclass

from crcore import zoo
from crcore.config import from_mapping, read_yaml
from crcore.errors import InputError
from crcore.losses import LOSSES
from crcore.networks import NetworkConfig
from crcore.optimizers import OPTIMIZERS

__all__ = ["SCHEDULES", "Recipe", "read_recipe"]

SCHEDULES = ("plateau", "cosine", "constant")


@dataclass(frozen=True)
class Recipe:
    """Everything that decides what a training run gives, apart from its data.

    Attributes
    ----------
    network : crcore.networks.NetworkConfig
        Architecture.
    init : str
        Fine-tune this model (section 6): a released model's name, a model's folder, or one of the
        authors' as ``official:ground_imaging``. Empty: start from random weights. A recipe file may leave
        ``network`` and ``input`` to it.
    data : str
        Settings of the simulated data (`crcore.simulate.datasets.SimulationConfig`), a file beside the recipe.
        ``crcore train`` simulates them where no folder with data is given. Several are parted by commas.
    input : {"noise", "counts", "raw", "standard"}
        What the network sees, see `crcore.preprocess.prepare`.
    loss : {"median_bce", "bce", "dice", "focal", "tversky"}
        Training loss.
    prior_bias : bool
        Start with the output bias at the logarithm of the odds of a ray, so that the first epochs need not
        find out how rare rays are.
    alpha_epochs : int
        Epochs in which α of the median-weighted loss grows from 0 to 1 (paper: 100).
    stamp_px, batch : int
        Side and number of the stamps of a mini-batch (paper: 1024, 10).
    epochs, samples_per_epoch : int
        Length of training. 0 samples are the paper's N/16 for N sequences.
    optimizer : {"adam", "muon"}
        Adam for all parameters, as in the paper; or Muon for the kernels of convolutions and Adam for the rest
        (`crcore.optimizers.MuonAndAdam`).
    lr : float
        Learning rate (paper: 0.001, 0.0001 for spectra).
    head_lr_factor : float
        The last convolution learns this many times faster. In short runs its bias, driven
        down while almost nothing is a ray, would else not come back up in time.
    schedule : {"plateau", "cosine", "constant"}
        Divide the learning rate by ten where validation stands still, as the authors did by hand; let it fall like a
        cosine to a hundredth, for runs whose length is set beforehand; or leave it, for ``average_epochs``.
    patience : int
        Validations without progress before a plateau's division.
    validate_every : int
        Epochs between validations.
    keep : {"best", "last"}
        The weights of the validation with the highest Dice, or the last ones: where the learning rate falls to an end
        that is set beforehand, a higher Dice on the way may be chance.
    average_epochs : int
        With ``keep: last``: keep the mean of the weights after each of the last so many epochs (stochastic weight
        averaging, arXiv:1803.05407).
    validate_px : int
        Side of the part of each validation exposure that is used.
    freeze_epoch : int
        Epoch from which batch normalisation's statistics are frozen; 0 never.
    use_ignore : bool
        Leave pixels that the labels ignore out of the loss. The paper keeps them, as not a ray; without them
        a network is never told that a star is none, and flags bright ones.
    source_weight : float
        With ``use_ignore``: what pixels on sources count in the loss, 0 by default. For data whose labels are the
        truth, and know rays on sources: 1 counts them as all others, more punishes harm to stars, and less counts all
        that is on sources less, rays too.
    source_ray_weight : float or None
        With ``source_weight``: what rays on sources count, by default as much, but at most 1. Less than
        ``source_weight`` punishes harm to stars without more of the loss on sources.
    hot_weight : float
        With ``source_weight``: what single hot pixels count, as no rays, in the loss. One exposure does not tell them
        from a ray of one pixel; with 0, the default, a network is never told that there are any. Labels by appendix A
        hold rays of one pixel to be such.
    soft_labels : bool
        Train towards the chance that a reference calls a pixel a ray, where the data know it, in place of one
        reference's word (`crcore.simulate.known.label_by_truth`). Validation is by the word.
    teacher : str
        With ``source_weight``: train towards the labels (0.3) and what this model, a folder or a released model's
        name, says of the same stamp (0.7; knowledge distillation, arXiv:1503.02531). It may be larger than the network.
        Several are parted by commas; their mean counts.
    views : int
        With ``teacher``: it is asked for its mean over so many turned and mirrored views of a stamp, 1 to 8, drawn
        for each batch. That is surer than any one look (data distillation, arXiv:1712.04440).
    bf16 : bool
        Compute convolutions in bfloat16 where the processor has it; elsewhere it would be emulated, far
        slower than float32.
    seed : int
        Of weights and stamps.
    """

    network: NetworkConfig = NetworkConfig()
    init: str = ""
    data: str = ""
    input: str = "noise"
    loss: str = "median_bce"
    prior_bias: bool = False
    alpha_epochs: int = 100
    stamp_px: int = 256
    batch: int = 8
    epochs: int = 100
    samples_per_epoch: int = 0
    optimizer: str = "adam"
    lr: float = 1e-3
    head_lr_factor: float = 1.0
    schedule: str = "plateau"
    patience: int = 8
    validate_every: int = 1
    keep: str = "best"
    average_epochs: int = 0
    validate_px: int = 512
    freeze_epoch: int = 0
    use_ignore: bool = False
    source_weight: float = 0.0
    source_ray_weight: float | None = None
    hot_weight: float = 0.0
    soft_labels: bool = False
    teacher: str = ""
    views: int = 1
    bf16: bool = True
    seed: int = 1

    def __post_init__(self):
        for name, known in (
            ("loss", tuple(LOSSES)),
            ("schedule", SCHEDULES),
            ("keep", ("best", "last")),
            ("optimizer", OPTIMIZERS),
        ):
            if getattr(self, name) not in known:
                raise InputError(f"{name} {getattr(self, name)!r} is unknown: use one of {', '.join(known)}")
        if self.source_weight and not (self.use_ignore and self.loss == "bce" and self.source_weight > 0):
            raise InputError(f"source_weight = {self.source_weight}: a positive number, with loss bce and use_ignore")
        if self.hot_weight and not (self.source_weight and self.hot_weight > 0):
            raise InputError(f"hot_weight = {self.hot_weight}: a positive number, with source_weight")
        if self.source_ray_weight is not None and not (self.source_weight and self.source_ray_weight > 0):
            raise InputError(f"source_ray_weight = {self.source_ray_weight}: a positive number, with source_weight")
        if self.teacher and not any(name.strip() for name in self.teacher.split(",")):
            raise InputError(f"teacher = {self.teacher!r}: a model, or several parted by commas")
        if self.teacher and not self.source_weight:
            raise InputError(f"teacher = {self.teacher}: with source_weight only")
        if not (1 <= self.views <= 8 and (self.teacher or self.views == 1)):
            raise InputError(f"views = {self.views}: 1 to 8, with teacher")
        if self.average_epochs and not (0 < self.average_epochs <= self.epochs and self.keep == "last"):
            raise InputError(
                f"average_epochs = {self.average_epochs}: at most the {self.epochs} epochs, with keep last"
            )
        for name in ("batch", "epochs", "validate_every", "validate_px", "stamp_px"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} = {getattr(self, name)}: at least 1 is needed")
        if self.network.census and self.input != "noise":
            raise InputError(f"network census with input {self.input!r}: the census is of images in units of the noise")
        if self.stamp_px % self.network.multiple:
            raise InputError(
                f"stamp_px = {self.stamp_px}: must be a multiple of {self.network.multiple} for this network"
            )


def read_recipe(path):
    """Read a `Recipe` from YAML; ``network`` and ``input`` are those of ``init`` where they are left out.

    Parameters
    ----------
    path : path-like

    Raises
    ------
    InputError
        For what a recipe does not know, or a model to begin with that is not there.
    """
    content = dict(read_yaml(path))
    init = content.get("init")
    if isinstance(init, str) and init and not {"network", "input"} <= set(content):
        official = init.startswith("official:")
        model = zoo.load_official(init.removeprefix("official:")) if official else zoo.load(init, network=False)
        content = {"network": asdict(model.config), "input": model.input} | content
    return from_mapping(Recipe, content, str(path))
