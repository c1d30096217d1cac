"""What a training step does with a gradient: Adam, or Muon for kernels and Adam for all else."""

import torch

__all__ = ["OPTIMIZERS", "MuonAndAdam", "make_optimizer"]

OPTIMIZERS = ("adam", "muon")

#: share of a kernel that a step takes away, in units of the learning rate: Muon's steps are no shorter where gradients
#: are small, and without it kernels grow until a network without normalisation layers forgets what it knew
_DECAY = 1.0


def make_optimizer(network, recipe):
    """Make the optimizer of a `crcore.recipe.Recipe`; the last convolution learns ``head_lr_factor`` times faster."""
    named = list(network.named_parameters())
    head = {"params": [p for name, p in named if name.startswith("leave.")], "lr": recipe.lr * recipe.head_lr_factor}
    maps = set()
    if recipe.optimizer == "muon":
        # what makes the answer from features is no map between features, and is left to Adam
        maps = {name for name, p in named if p.ndim == 4 and not name.startswith(("leave.", "coarse."))}
    others = {"params": [p for name, p in named if name not in maps and not name.startswith("leave.")]}
    if not maps:
        return torch.optim.Adam([others, head], lr=recipe.lr)
    return MuonAndAdam([p for name, p in named if name in maps], [others, head], lr=recipe.lr)


class MuonAndAdam(torch.optim.Optimizer):
    """Muon for the kernels of convolutions, as matrices (out, in h w), and Adam for all other parameters.

    Muon's step has equal singular values, so that what a network without normalisation layers says cannot run away
    along one direction, and no direction is left behind (https://kellerjordan.github.io/posts/muon/). Its size is
    matched to Adam's (arXiv:2502.16982), so that one learning rate serves both.

    Parameters
    ----------
    kernels : list of torch.nn.Parameter
        Of four axes, where they are to stay: they must not be moved to another device afterwards.
    others : iterable
        Parameters, or groups of them, as for `torch.optim.Adam`.
    lr : float
        Learning rate of both.
    """

    def __init__(self, kernels, others, lr):
        self._kernels = kernels
        # views, so that a step on the matrix is one on the kernel
        matrices = [torch.nn.Parameter(_flat(kernel).view(len(kernel), -1), requires_grad=False) for kernel in kernels]
        self._muon = torch.optim.Muon(matrices, lr=lr, weight_decay=_DECAY, adjust_lr_fn="match_rms_adamw")
        self._adam = torch.optim.Adam(others, lr=lr)
        super().__init__(kernels, {})
        self.param_groups = self._muon.param_groups + self._adam.param_groups  # the same ones: schedules set their lr

    def zero_grad(self, set_to_none=True):
        """Forget the gradients."""
        for kernel in self._kernels:
            kernel.grad = None
        self._adam.zero_grad(set_to_none)

    @torch.no_grad()
    def step(self, closure=None):
        """Take a step."""
        with torch.enable_grad():
            loss = None if closure is None else closure()
        for matrix, kernel in zip(self._muon.param_groups[0]["params"], self._kernels, strict=True):
            matrix.grad = None if kernel.grad is None else _flat(kernel, kernel.grad).flatten(1)
        self._muon.step()
        self._adam.step()
        return loss

    def state_dict(self):
        """States of both."""
        return {"muon": self._muon.state_dict(), "adam": self._adam.state_dict()}

    def load_state_dict(self, state):
        """Go on from `state_dict`; the groups stay those of this optimizer's schedule."""
        self._muon.load_state_dict(state["muon"])
        self._adam.load_state_dict(state["adam"])
        self.param_groups[:] = self._muon.param_groups + self._adam.param_groups


def _flat(kernel, what=None):
    """A kernel, or what goes with it, with its axes in the order in which the kernel lies in memory."""
    what = kernel.detach() if what is None else what
    return what if kernel.is_contiguous() else what.permute(0, 2, 3, 1)
