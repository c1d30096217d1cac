"""Networks and their training against the released package.

python benchmarks/training.py [parity] [throughput] [memory]     (all by default)

``parity``: the released weights in our classes against the released networks, whole float32 outputs.
``throughput``: a training step of the paper's network here and in the released package, in turns, on two threads.
``memory``: peak of a step on 10 stamps of 1024², the paper's batch. All need cosmic-conn (pip install '.[rivals]').
"""

import contextlib
import io
import logging
import os
import subprocess
import sys
import time
import types
import warnings

import numpy as np
import torch

from crcore.losses import median_weighted_loss
from crcore.networks import NetworkConfig, build
from crcore.preprocess import prepare
from crcore.zoo import load_official

#: address space that a step may take on this machine, GB
LIMIT_GB = 21


def head(*cells):
    print()
    print("| " + " | ".join(cells) + " |")
    print("|" + " --- |" * len(cells), flush=True)


def line(*cells):
    print("| " + " | ".join(str(c) for c in cells) + " |", flush=True)


@contextlib.contextmanager
def quiet():
    level = logging.getLogger().level
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield
    logging.getLogger().setLevel(level)


def parity():
    """Largest difference of probabilities on an image with rays and a star, in float32 and float64."""
    with quiet():
        import cosmic_conn
        from deepCR import deepCR
    rng = np.random.default_rng(5)
    electrons = rng.normal(200, 15, (256, 320))
    electrons[40, 30:60] += 1500
    electrons[160:164, 80:84] += 9000
    head("released network", "float32", "float64")
    for name in ("ground_imaging", "NRES", "HST_ACS_WFC", "deepCR ACS-WFC", "deepCR WFC3-UVIS", "deepCR decam"):
        model = load_official(name)
        with quiet():
            if name.startswith("deepCR"):
                released = deepCR(mask=name.split()[1], device="CPU").maskNet
            else:
                released = cosmic_conn.init_model(name).network
        found = []
        for kind in (torch.float32, torch.float64):
            x = torch.from_numpy(prepare(electrons, model.input))[None, None].to(kind)
            with torch.inference_mode():
                ours, theirs = torch.sigmoid(model.network.to(kind)(x)), released.to(kind)(x)
            found.append(f"{float((ours - theirs).abs().max()):.1e}")
        line(name, *found)


def _batch(stamps, side):
    rng = torch.Generator().manual_seed(1)
    image = torch.randn(stamps, 1, side, side, generator=rng)
    target = (torch.rand(stamps, 1, side, side, generator=rng) < 1e-3).float()
    median = torch.randn(stamps, 1, side, side, generator=rng)
    return image, target, median


def _our_step(config=None):
    """A step of ours as `crcore.training.train` makes it, as a function of a batch."""
    network = build(config or NetworkConfig()).to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    hardware = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()

    def step(image, target, median):
        with torch.autocast("cpu", torch.bfloat16, enabled=hardware):
            logits = network(image.contiguous(memory_format=torch.channels_last)).float()
        loss = median_weighted_loss(logits, target, median, 0.5)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    return step


def _released_step():
    """The released package's own update, on batches in the shape that its data loader gives."""
    with quiet():
        from cosmic_conn import init_model

        model = init_model("ground_imaging")
        from cosmic_conn.dl_framework.utils_ml import median_weighted_bce
    model.opt.loss, model.opt.norm, model.opt.imbalance_alpha = "median_bce", "group", 100
    model.criterion, model.bce = median_weighted_bce, torch.nn.BCELoss()
    model.optimizer = torch.optim.Adam(model.network.parameters(), lr=1e-3)
    # its data loader's arrays would be taken apart here: the same tensors go in without that
    model.prep_data = types.MethodType(lambda self, data: (*data, torch.zeros_like(data[0]), ["lco"]), model)

    def step(image, target, median):
        with quiet():
            model.update_model((image, target, median), 50)

    return step


def throughput():
    """Mpixel a second of a training step of the paper's network, in turns."""
    torch.set_num_threads(2)
    head("stamps", "released, Mpixel/s", "ours, Mpixel/s", "ratio")
    for stamps, side in ((8, 256), (1, 1024)):
        batch = _batch(stamps, side)
        steps = {"released": _released_step(), "ours": _our_step()}
        seconds = dict.fromkeys(steps, 0.0)
        for turn in range(4):
            for name, step in steps.items():
                begun = time.perf_counter()
                step(*batch)
                if turn:  # the first is for warming up
                    seconds[name] += time.perf_counter() - begun
        rates = {name: 3 * stamps * side**2 / 1e6 / s for name, s in seconds.items()}
        line(f"{stamps} x {side}²", *(f"{r:.3f}" for r in rates.values()), f"{rates['ours'] / rates['released']:.1f}")


def memory():
    """Peak memory of a step on 10 x 1024², each in a process of its own."""
    head("10 x 1024², one step", f"peak resident memory, GB, under a limit of {LIMIT_GB} GB of addresses")
    for name in ("_our_step", "_released_step"):
        code = (
            f"import sys; sys.path.insert(0, {os.path.dirname(os.path.abspath(__file__))!r})\n"
            f"import resource, training\nresource.setrlimit(resource.RLIMIT_AS, ({LIMIT_GB * 10**9},) * 2)\n"
            f"training.{name}()(*training._batch(10, 1024))\n"
            "print(f'{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.1f}')"
        )
        done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=False)
        last = (done.stdout if done.returncode == 0 else done.stderr).strip().splitlines()[-1]
        full = any(word in last for word in ("allocate memory", "MemoryError", "not enough memory"))
        told = "does not fit" if done.returncode and full else last
        line("ours" if "our" in name else "released", told)


if __name__ == "__main__":
    parts = {f.__name__: f for f in (parity, throughput, memory)}
    for part in sys.argv[1:] or parts:
        parts[part]()
