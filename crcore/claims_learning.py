"""What the ledger says of sections 3.1 to 3.3 and appendices B and C: losses, curves, ablation."""

from functools import partial

from crcore.finding import Finding
from crcore.profiles import load_profile
from crcore.tables import format_percent

__all__ = ["MEASURES"]

_STUDY = "simulated LCO, first images"
_GRID = "simulated, grid of 3 seeds"


def _decided(effect, positive, what):
    """Verdict and reason from a mean difference with its standard error; two of them decide."""
    mean, error = effect["mean"], effect["error"]
    found = f"{what} {100 * mean:+.1f} ± {100 * error:.1f} points over {effect['pairs']} pairs of runs"
    if not abs(mean) > 2 * error:
        return "not testable here", f"{found}: within the scatter of seeds."
    return ("same direction" if (mean > 0) == positive else "not reproduced"), f"{found}."


def _ratio(evidence, loss, when, published):
    row = evidence.learning["ratios"][loss]
    ours = row[when]
    if when == "start" and loss == "bce":
        return Finding(
            f"1:{ours:.0f}",
            _STUDY,
            "reproduced" if 0.5 < ours / published < 2 else "differs in data",
            f"Fresh networks, {row['seeds']} seeds; the ratio is that of the pixels, and rays are simulated at "
            f"{evidence.learning['rate_factor']:g} times their natural rate.",
        )
    other = evidence.learning["ratios"]["bce" if loss == "median_bce" else "median_bce"][when]
    factor, theirs = other / ours, {"start": 21, "end": 110 / 6}[when]
    if loss == "bce":
        factor = 1 / factor
    verdict = "reproduced" if 0.5 < ours / published < 2 else "same direction" if factor > 1.5 else "not reproduced"
    return Finding(
        f"1:{ours:.3g} ({row[f'{when}_low']:.3g} to {row[f'{when}_high']:.3g})",
        _STUDY,
        verdict,
        f"{row['seeds']} seeds; the weighted loss lowers the ratio {factor:.3g} times (published: {theirs:.0f} times).",
    )


def _first_wrong(evidence):
    b = evidence.learning["bce"]
    rays, sources = b["early_rays"], b["early_sources"]
    low = max(rays, sources)
    return Finding(
        f"rays {rays:.3f}, sources {sources:.3f}, sky {b['early_sky']:.3f}",
        _STUDY,
        "reproduced" if low < 0.05 else "same direction" if low < 0.5 * b["first_rays"] else "not reproduced",
        f"Mean prediction when a third to a half of the images are seen; {b['first_rays']:.2f} before any.",
    )


def _second_wrong(evidence):
    b = evidence.learning["bce"]
    rays, sources, sky = b["late_rays"], b["late_sources"], b["late_sky"]
    both = min(rays, sources)
    rising = min(rays - b["early_rays"], sources - b["early_sources"]) > 0.02 and both > 5 * sky
    return Finding(
        f"rays {rays:.3f}, sources {sources:.3f}, sky {sky:.3f}",
        _STUDY,
        "reproduced" if both > 0.5 else "same direction" if rising else "not reproduced",
        "Mean prediction over the last tenth of the images, with cross entropy; the paper does not say after how many.",
    )


def _dice_shuns(evidence):
    near = evidence.ablation["near"]
    if not {"Cosmic-CoNN", "Cosmic-CoNN Dice"} <= set(near):
        return None
    a, b = near["Cosmic-CoNN"], near["Cosmic-CoNN Dice"]
    base, dice = (n["near"] / max(n["far"], 1e-9) for n in (a, b))
    return Finding(
        f"near / far recall {dice:.3f} with Dice, {base:.3f} without",
        "simulated LCO",
        "same direction" if dice < base - 0.02 else "not reproduced",
        f"Rays within 5 px of a source ({a['pixels_near']} pixels) against those 20 px away, one run each.",
    )


def _larger_stamps(evidence):
    effect = evidence.ablation["grid"].get("stamp_px: 256 - 64")
    if effect is None:
        return None
    verdict, reason = _decided(effect["LCO, simulated"], True, "256² less 64² stamps: precision at 95% recall")
    return Finding(f"{100 * effect['LCO, simulated']['mean']:+.1f} points", _GRID, verdict, reason)


def _group_generalises(evidence):
    effect = evidence.ablation["grid"].get("norm: group - batch")
    if effect is None:
        return None
    gemini = [effect[name] for name in effect if name.startswith("gmos")]
    pooled = {
        "mean": sum(e["mean"] for e in gemini) / len(gemini) - effect["LCO, simulated"]["mean"],
        "error": sum(e["error"] ** 2 for e in [*gemini, effect["LCO, simulated"]]) ** 0.5 / len(gemini),
        "pairs": sum(e["pairs"] for e in gemini),
    }
    verdict, reason = _decided(pooled, True, "GN's lead over BN on Gemini, less that on LCO:")
    return Finding(f"{100 * pooled['mean']:+.1f} points", _GRID, verdict, reason)


def _curves(evidence):
    epochs, freeze = evidence.ablation["epochs"], evidence.training["freeze_epoch"]
    found, late = [], []
    for name in ("Cosmic-CoNN BN", "deepCR"):
        if name in epochs:
            reached = epochs[name]
            found.append(f"{name}: {'never' if reached is None else reached}")
            late.append(reached is None or reached > freeze[name])
    if not found:
        return None
    base = epochs["Cosmic-CoNN"]
    return Finding(
        f"{'; '.join(found)}; Cosmic-CoNN: {base}",
        "simulated LCO",
        "same direction" if all(late) else "not reproduced",
        f"Epochs to a Dice of {evidence.ablation['goal']:.2f}, one run each; statistics freeze at epoch "
        f"{freeze.get('deepCR')}.",
    )


def _small(evidence, kind):
    """The variant's name: that of the small stamps depends on the profile."""
    if kind != "small":
        return kind
    return next((name for name in evidence.ablation["epochs"] if name.endswith("²")), None)


def _epochs(evidence, kind, published):
    name = _small(evidence, kind)
    epochs, goal = evidence.ablation["epochs"], evidence.ablation["goal"]
    if name not in epochs:
        return None
    ours, base = epochs[name], epochs["Cosmic-CoNN"]
    text = "never" if ours is None else str(ours)
    if name == "Cosmic-CoNN":
        return Finding(text, "simulated LCO", "differs in data", f"Epochs of a narrow network to a Dice of {goal:.2f}.")
    slower = ours is None or ours > base
    return Finding(
        text,
        "simulated LCO",
        "same direction" if slower else "not reproduced",
        f"Baseline: {base} epochs to a Dice of {goal:.2f} (published: 170 against {published}); one run each.",
    )


def _precision(evidence, kind, published):
    name = _small(evidence, kind)
    ours = evidence.ablation["precision"].get(f"{name} (retrained)")
    base = evidence.ablation["precision"]["Cosmic-CoNN (retrained)"]
    if not ours:
        return None
    text = " / ".join(format_percent(value) for value in ours.values())
    if name == "Cosmic-CoNN":
        return Finding(text, "simulated LCO and Gemini", "differs in data", "Trained for minutes, one run.")
    lower = [ours[s] < base[s] for s in ours]
    verdict = "same direction" if all(lower) else "not reproduced"
    order = ", ".join(f"{s.removesuffix(', simulated')} {100 * (ours[s] - base[s]):+.1f}" for s in ours)
    return Finding(
        text, "simulated LCO and Gemini", verdict, f"Points from the baseline: {order}; published {published}; one run."
    )


def _settings(_evidence):
    recipes = load_profile("paper").training
    base, small = recipes["Cosmic-CoNN"], next(r for name, r in recipes.items() if name.endswith("²"))
    found = (base.lr, base.network.groups, base.alpha_epochs, base.batch, base.stamp_px, small.batch, small.stamp_px)
    same = found == (1e-3, 8, 100, 10, 1024, 160, 256) and base.schedule == "plateau"
    return Finding(
        f"Adam; lr {base.lr:g}, {base.schedule}; {base.network.groups} groups; α in {base.alpha_epochs} epochs; "
        f"{base.batch} x {base.stamp_px}² or {small.batch} x {small.stamp_px}²",
        "paper profile",
        "reproduced" if same else "differs in data",
        "The settings of config/paper.yaml, read; that profile has not been run in full.",
    )


MEASURES = {
    "C11": partial(_ratio, loss="bce", when="start", published=6300),
    "C12": partial(_ratio, loss="median_bce", when="start", published=300),
    "C13": partial(_ratio, loss="bce", when="end", published=110),
    "C14": partial(_ratio, loss="median_bce", when="end", published=6),
    "C15": _first_wrong,
    "C16": _second_wrong,
    "C17": _dice_shuns,
    "C18": _larger_stamps,
    "C19": _group_generalises,
    "C20": _curves,
    "C50": partial(_epochs, kind="Cosmic-CoNN", published=170),
    "C51": partial(_epochs, kind="Cosmic-CoNN BN", published=640),
    "C52": partial(_epochs, kind="Cosmic-CoNN BCE", published=300),
    "C53": partial(_epochs, kind="small", published=800),
    "C54": partial(_precision, kind="Cosmic-CoNN", published=""),
    "C55": partial(_precision, kind="Cosmic-CoNN BN", published="-0.4, -7.8, -12.0"),
    "C56": partial(_precision, kind="Cosmic-CoNN BCE", published="-1.0, -5.8, -1.2"),
    "C57": partial(_precision, kind="small", published="-2.0, -11.9, -4.4"),
    "C65": _settings,
}
