"""Trains the two residual networks of the benchmarks, briefly and seeded.

    python -m benchmarks.training resnet18-16 [--epochs 2] [--images 12000] [--shared FOLDER]

Width 16 on Fashion-MNIST, width 64 on CIFAR-10. The same versions on the same kind of machine write the same
weights, as ``benchmarks/weights/NAME.pt``, and print the accuracy on images that were not trained on. The
shared folder holds some hundred images of CIFAR-10, enough for weights that are not random; --cifar names a
larger archive (images ``(N, 32, 32, 3)`` uint8, labels ``(N,)``).
"""

from __future__ import annotations

import argparse
import gzip
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.networks import seeded

WEIGHTS = Path(__file__).resolve().parent / "weights"
_SEED, _BATCH, _HELD_OUT = 11, 64, 1_000


def fashion(folder: Path) -> tuple[Tensor, Tensor]:
    """The training images of Fashion-MNIST ``(60000, 1, 28, 28)`` and their labels."""
    images = np.frombuffer(
        gzip.decompress((folder / "train-images-idx3-ubyte.gz").read_bytes())[16:], np.uint8
    )
    labels = np.frombuffer(
        gzip.decompress((folder / "train-labels-idx1-ubyte.gz").read_bytes())[8:], np.uint8
    )
    return (
        torch.tensor(images.reshape(-1, 1, 28, 28) / 255, dtype=torch.float32),
        torch.tensor(labels.astype(np.int64)),
    )


def cifar(archive: Path) -> tuple[Tensor, Tensor]:
    """Images of CIFAR-10 ``(N, 3, 32, 32)`` and their labels, from an archive of NumPy arrays."""
    with np.load(archive) as held:
        images, labels = held["images"], held["labels"].astype(np.int64)
    pixels = np.ascontiguousarray(images.transpose(0, 3, 1, 2)) / 255
    return torch.tensor(pixels, dtype=torch.float32), torch.tensor(labels)


def train(model: nn.Module, images: Tensor, labels: Tensor, epochs: int) -> None:
    """Cross-entropy by AdamW with one cosine schedule."""
    torch.manual_seed(_SEED)
    optimiser = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, epochs * -(-len(images) // _BATCH))
    model.train()
    for _ in range(epochs):
        for batch in torch.randperm(len(images)).split(_BATCH):
            optimiser.zero_grad()
            nn.functional.cross_entropy(model(images[batch]), labels[batch]).backward()
            optimiser.step()
            schedule.step()
    model.eval()


def main(arguments: Sequence[str] | None = None) -> int:
    """Train one network and keep it."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.training", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("network", choices=("resnet18-16", "resnet18-64"))
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--images", type=int, default=12_000, help="images to train on (default 12000)")
    shared = Path(__file__).resolve().parent.parent.parent / "shared"
    parser.add_argument("--shared", type=Path, default=shared, help="folder of Fashion-MNIST")
    parser.add_argument(
        "--cifar", type=Path, help="archive of CIFAR-10 images (default: the shared folder's)"
    )
    options = parser.parse_args(arguments)
    if options.network == "resnet18-64":
        images, labels = cifar(options.cifar or options.shared / "data/cifar10/cifar10_test_exact.npz")
    else:
        images, labels = fashion(options.shared / "data/fashion-mnist")
    held_out = min(_HELD_OUT, len(images) // 5)
    some = min(options.images, len(images) - held_out)
    model = seeded(options.network)
    train(model, images[:some], labels[:some], options.epochs)
    with torch.no_grad():
        right = model(images[-held_out:]).argmax(dim=1) == labels[-held_out:]
    WEIGHTS.mkdir(exist_ok=True)
    torch.save(model.state_dict(), WEIGHTS / f"{options.network}.pt")
    print(f"{options.network}: {float(right.float().mean()):.1%} of {held_out} images held out are right")
    return 0


if __name__ == "__main__":
    sys.exit(main())
