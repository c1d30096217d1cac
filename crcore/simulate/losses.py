"""Energy that a fast particle leaves in thin silicon: Landau's law, the density effect, bound electrons.

Equations: Particle Data Group, Review of Particle Physics 2024, section 34.2.
"""

import numpy as np
from scipy import stats

from crcore.simulate.electrons import ELECTRON_MASS_EV, MEAN_EXCITATION_EV, XI_EV_PER_UM

__all__ = ["bound_electrons_ev", "landau_loss_ev"]

PLASMA_EV = 31.05
SCIPY_LANDAU_MODE = -0.42931453
BOUND_EV = 390.0  # variance per energy lost, from binding: 1.1e5 eV² over 285 eV, the mean loss below DELTA_EV, per um
#: Sternheimer's density effect in silicon (PDG equation 34.7): C, x0, x1, a, k
_DENSITY = (4.4351, 0.2014, 2.8715, 0.14921, 3.2546)


def _density_effect(beta_gamma):
    """Density-effect correction of silicon, PDG equation 34.7 (no conductor's term: silicon's is below 0.14)."""
    c, x0, x1, a, k = _DENSITY
    x = np.log10(beta_gamma)
    full = 2 * np.log(10) * x - c
    return np.where(x < x0, 0.0, full + a * np.maximum(x1 - x, 0.0) ** k)


def landau_loss_ev(path_um, rng, *, beta=1.0, cut_ev=np.inf):
    """Energy that a fast particle of one charge leaves on each path, in eV.

    Parameters
    ----------
    path_um : numpy.ndarray
        Lengths of the steps. Landau's law is stable under addition, so the sum
        over steps has the distribution of the whole path.
    rng : numpy.random.Generator
        Source of randomness.
    beta : float or numpy.ndarray, optional
        Speed over that of light, one for all or one for each path. At 1 the
        density effect has its full strength (PDG equation 34.12); below it
        equation 34.11 holds, where losses grow about as 1/beta².
    cut_ev : float, optional
        The most that a path may lose. Where it would lose more, an electron carries
        the rest away, which is followed on its own or leaves the detector: the most
        probable loss stays.

    Returns
    -------
    numpy.ndarray
        Losses in eV, never negative.
    """
    path, beta = np.broadcast_arrays(np.maximum(path_um, 1e-6), np.asarray(beta, dtype=float))
    xi = XI_EV_PER_UM * path / beta**2
    slow = np.minimum(beta, 1 - 1e-9)
    beta_gamma = slow / np.sqrt(1 - slow**2)
    thin = (
        np.log(2 * ELECTRON_MASS_EV * beta_gamma**2 * xi / MEAN_EXCITATION_EV**2)
        - slow**2
        - _density_effect(beta_gamma)
    )
    dense = np.log(2 * ELECTRON_MASS_EV * xi / PLASMA_EV**2)
    most_probable = xi * (np.where(beta >= 1, dense, thin) + 0.2)
    # scipy's Landau is the stable law of unit scale: Landau's own unit is pi/2 wider, its peak at SCIPY_LANDAU_MODE.
    standard = stats.landau.rvs(size=path.shape, random_state=rng) - SCIPY_LANDAU_MODE
    loss = np.maximum(most_probable + xi * np.pi / 2 * standard, 0.0)
    return np.where(loss > cut_ev, np.minimum(most_probable, cut_ev), loss)


def bound_electrons_ev(loss_ev, rng):
    """Spread losses as the binding of electrons does: a gamma law of the same mean, `BOUND_EV` wide.

    Landau takes electrons for free. That silicon's K and L shells are not widens the
    losses in thin layers, by the variance of Shulek et al. (1967; Hall 1984,
    doi:10.1016/0167-5087(84)90296-1): 8/3 xi sum(f_i I_i ln(2 m c² / I_i)), 5.8 keV RMS
    for 300 um. A gamma law adds up over steps, as Landau's does, and is never negative.
    """
    return BOUND_EV * rng.standard_gamma(loss_ev / BOUND_EV)
