"""Write the golden vectors of tests/test_pytorch.py from torch.nn.BatchNorm1d.

Run from the repository's root, with PyTorch installed:

    python tests/data/make_pytorch_golden.py

Each case is a layer with random settings that takes some training steps and
then one eval-mode pass. The file holds, per case, the settings as JSON, the
mini-batches, and the layer's state and output.
"""

import json
from pathlib import Path

import numpy as np
import torch

PATH = Path(__file__).with_name("pytorch_batch_norm_1d.npz")

CASES = [
    # dtype, momentum, eps, affine, track_running_stats, rows, features, steps
    ("float64", 0.1, 1e-5, True, True, 32, 5, 10),
    ("float64", None, 1e-5, True, True, 16, 3, 12),
    ("float64", 0.0, 1e-5, True, True, 8, 2, 4),
    ("float64", 1.0, 1e-3, False, True, 8, 2, 4),
    ("float64", 0.37, 1e-12, True, True, 2, 7, 30),
    ("float64", 0.01, 1.0, False, True, 50, 1, 5),
    ("float64", 0.1, 1e-5, True, False, 20, 4, 2),
    ("float64", 0.1, 1e-5, False, False, 20, 4, 2),
    ("float32", 0.1, 1e-5, True, True, 32, 5, 10),
    ("float32", None, 1e-5, False, True, 16, 3, 12),
    ("float32", 0.9, 1e-3, True, True, 2, 6, 20),
    ("float32", 0.1, 1e-5, True, False, 20, 4, 2),
]


def main() -> None:
    rng = np.random.default_rng(20_240)
    arrays: dict[str, np.ndarray] = {}
    for number, (
        dtype,
        momentum,
        eps,
        affine,
        track,
        rows,
        features,
        steps,
    ) in enumerate(CASES):
        layer = torch.nn.BatchNorm1d(
            features,
            eps=eps,
            momentum=momentum,
            affine=affine,
            track_running_stats=track,
            dtype=getattr(torch, dtype),
        )
        if affine:
            with torch.no_grad():
                layer.weight.copy_(torch.from_numpy(rng.normal(size=features)))
                layer.bias.copy_(torch.from_numpy(rng.normal(size=features)))
        loc, scale = rng.normal(0, 5, features), rng.uniform(0.2, 5, features)
        batches = rng.normal(loc, scale, (steps + 1, rows, features)).astype(dtype)
        layer.train()
        for batch in batches[:-1]:
            layer(torch.from_numpy(batch))
        layer.eval()
        with torch.no_grad():
            output = layer(torch.from_numpy(batches[-1])).numpy()
        settings = {
            "momentum": momentum,
            "eps": eps,
            "affine": affine,
            "track_running_stats": track,
        }
        case = f"case{number:02d}"
        arrays[f"{case}/settings"] = np.array(json.dumps(settings))
        arrays[f"{case}/batches"] = batches
        arrays[f"{case}/output"] = output
        for key, tensor in layer.state_dict().items():
            arrays[f"{case}/state/{key}"] = tensor.numpy()
    arrays["torch_version"] = np.array(torch.__version__)
    np.savez_compressed(PATH, **arrays)
    print(f"{PATH.name}: {len(CASES)} cases, {PATH.stat().st_size} bytes")


if __name__ == "__main__":
    main()
