"""Training the networks, seeded, and keeping each as an ONNX file with what was measured of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path

import torch
from torch import Tensor, nn

from studies.nfm2023.data import DataSet, Part
from studies.nfm2023.export import to_onnx
from studies.nfm2023.networks import ARCHITECTURES, NOISE, PGD, Wanted

BATCH = 128
STEPS = {"standard": 3_000, PGD: 2_000, NOISE: 3_000}
LEARNING_RATE, WEIGHT_DECAY = 2e-3, 1e-4
# Largest change of a pixel in adversarial training; five signed gradient steps of a third of it.
RADIUS = {"MNIST": 0.1, "Fashion-MNIST": 0.05}
ATTACK_STEPS = 5
NOISE_DEVIATION = 0.2
MEASURED = 1_000  # held-out images on which the attack is measured


@dataclass(frozen=True)
class Trained:
    """A trained network: its file, and its accuracy on held-out images, clean and under the PGD attack."""

    wanted: Wanted
    file: str
    accuracy: float
    attacked: float
    steps: int
    seed: int


def trained(
    wanted: Sequence[Wanted],
    sets: dict[str, DataSet],
    folder: Path,
    workers: int,
    tell: Callable[[str], None],
) -> dict[Wanted, Trained]:
    """Every wanted network, from the folder where it is there, trained and kept there otherwise."""
    folder.mkdir(parents=True, exist_ok=True)
    done = {one: kept for one in wanted if (kept := _kept(one, folder)) is not None}
    missing = [one for one in wanted if one not in done]
    if not missing:
        return done
    tell(f"training {len(missing)} networks")
    with ProcessPoolExecutor(min(workers, len(missing)), get_context("spawn")) as pool:
        orders = {pool.submit(_train_and_keep, one, sets[one.data], folder): one for one in missing}
        for count, order in enumerate(as_completed(orders), 1):
            one = order.result()
            done[orders[order]] = one
            tell(
                f"trained {count} of {len(missing)}: {one.wanted.name}, {one.accuracy:.1%} right, "
                f"{one.attacked:.1%} under attack"
            )
    return done


def _paths(wanted: Wanted, folder: Path) -> tuple[Path, Path]:
    stem = wanted.name.replace(" ", "-")
    return folder / f"{stem}.onnx", folder / f"{stem}.json"


def _recipe(wanted: Wanted) -> dict[str, object]:
    """What the network depends on beside the images: a network of another recipe is trained again."""
    return {
        "wanted": asdict(wanted),
        "seed": wanted.seed,
        "steps": STEPS[wanted.training],
        "batch": BATCH,
        "learning_rate": LEARNING_RATE,
        "weight_decay": WEIGHT_DECAY,
        "radius": RADIUS[wanted.data],
        "attack_steps": ATTACK_STEPS,
        "noise": NOISE_DEVIATION,
        "layers": str(ARCHITECTURES[wanted.architecture].build()),
    }


def _kept(wanted: Wanted, folder: Path) -> Trained | None:
    model, notes = _paths(wanted, folder)
    if not (model.is_file() and notes.is_file()):
        return None
    kept = json.loads(notes.read_text())
    if kept["recipe"] != _recipe(wanted):
        return None
    return Trained(wanted, str(model), **kept["measured"])


def _train_and_keep(wanted: Wanted, data: DataSet, folder: Path) -> Trained:
    torch.set_num_threads(1)  # sums in one order, whatever the machine
    torch.manual_seed(wanted.seed)
    model = ARCHITECTURES[wanted.architecture].build()
    train = data.train
    assert train is not None  # only MNIST and Fashion-MNIST are asked for
    _train(model, train, wanted)
    few = Part(data.held_out.images[:MEASURED], data.held_out.labels[:MEASURED], ())
    measured = {
        "accuracy": _accuracy(model, data.held_out.images, data.held_out.labels),
        "attacked": _accuracy(model, _attacked(model, few, RADIUS[wanted.data]), few.labels),
        "steps": STEPS[wanted.training],
        "seed": wanted.seed,
    }
    file, notes = _paths(wanted, folder)
    file.write_bytes(to_onnx(model, wanted.name, (1, 28, 28)).SerializeToString())
    notes.write_text(json.dumps({"recipe": _recipe(wanted), "measured": measured}, indent=2))
    return Trained(wanted, str(file), **measured)


def _train(model: nn.Sequential, part: Part, wanted: Wanted) -> None:
    """Cross-entropy by AdamW with one cosine schedule; attacked or noisy images where wanted."""
    steps = STEPS[wanted.training]
    optimiser = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for _ in range(steps):
        chosen = torch.randint(len(part.labels), (BATCH,))
        batch = Part(part.images[chosen], part.labels[chosen], ())
        if wanted.training == PGD:
            images = _attacked(model, batch, RADIUS[wanted.data])
        elif wanted.training == NOISE:
            images = (batch.images + NOISE_DEVIATION * torch.randn_like(batch.images)).clip(0, 1)
        else:
            images = batch.images
        optimiser.zero_grad()
        nn.functional.cross_entropy(model(images), batch.labels).backward()
        optimiser.step()
        schedule.step()


def _attacked(model: nn.Sequential, part: Part, radius: float) -> Tensor:
    """Images moved against the network, no pixel by more than the radius.

    Projected gradient descent: A. Madry et al., "Towards Deep Learning Models Resistant to Adversarial
    Attacks", ICLR 2018.
    """
    moved = (part.images + radius * (2 * torch.rand_like(part.images) - 1)).clip(0, 1)
    for _ in range(ATTACK_STEPS):
        moved.requires_grad_(True)
        loss = nn.functional.cross_entropy(model(moved), part.labels)
        (slope,) = torch.autograd.grad(loss, moved)
        stepped = moved.detach() + radius / 3 * slope.sign()
        moved = stepped.clamp(part.images - radius, part.images + radius).clip(0, 1)
    return moved.detach()


def _accuracy(model: nn.Sequential, images: Tensor, labels: Tensor) -> float:
    with torch.no_grad():
        return (model(images).argmax(1) == labels).double().mean().item()
