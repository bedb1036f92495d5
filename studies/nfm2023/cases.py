"""The plan: which networks, images, boxes, thresholds and engines, and what each case is for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from steadygaze.campaign import Plan, PlannedCase, make_case
from steadygaze.errors import SettingError
from steadygaze.network.reading.load import load_network
from studies.nfm2023.data import DataSet
from studies.nfm2023.networks import ARCHITECTURES, PUBLIC, Public
from studies.nfm2023.training import Trained

CLASS_ONLY = 2.0
"""The largest value of the cosine inconsistency: with this threshold only the class can fail."""
DELTA = 0.3
"""The threshold at which engines are compared and costs are measured."""
FULL_WIDTH = 1.0
CANDIDATES = 500  # held-out images among which those to verify are sought
ENGINES = ("sweep", "bfs", "gbs", "nearest")

# What belongs to a set at full width: name, parameters with their ranges, constants.
_LINKS = {
    "brightness": ("brightness(amount={low}..{high})", -0.3, 0.3),
    "contrast": ("contrast(amount={low}..{high})", -0.2, 0.2),
    "patch": ("patch(opacity={low}..{high}, top=12, left=12, height=3, width=3, mode=add)", 0.0, 1.0),
    "translate": ("translate(dx={low}..{high}, dy={low}..{high})", -1.0, 1.0),
}
# In the order of application: exact engines want products of parameters avoided.
SETS = {
    "{brightness}": ("brightness",),
    "{patch}": ("patch",),
    "{translate}": ("translate",),
    "{brightness, patch}": ("brightness", "patch"),
    "{brightness, translate}": ("translate", "brightness"),
    "{brightness, contrast, patch}": ("contrast", "brightness", "patch"),
}


@dataclass(frozen=True)
class Form:
    """How large the study is. Times in seconds, memory in GiB."""

    name: str
    images: int
    cost_images: int
    thresholds: tuple[float, ...]
    widths: tuple[float, ...]
    time_limit: float
    memory_limit: float


FULL = Form("full", 10, 3, (0.1, 0.3, 0.5), (0.25, 0.5), 2.0, 2.0)
QUICK = Form("quick", 2, 1, (0.1, 0.3), (0.5,), 2.0, 1.0)


@dataclass(frozen=True)
class Subject:
    """A network to be verified, and what reports say of it."""

    name: str
    data: str
    training: str
    architecture: str
    family: str
    model: str
    layout: str = "chw"
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    accuracy: float | None = None
    attacked: float | None = None


def subject_of(network: Trained | Public, models: Path) -> Subject:
    """A network of ours or a public one, in one form."""
    if isinstance(network, Public):
        training = f"{PUBLIC}, robust" if network.robust else PUBLIC
        return Subject(
            network.name, network.data, training, network.name, PUBLIC, str(models / network.file),
            network.layout, network.mean, network.std,
        )  # fmt: skip
    wanted = network.wanted
    return Subject(
        wanted.name, wanted.data, wanted.training, wanted.architecture,
        ARCHITECTURES[wanted.architecture].family, network.file,
        accuracy=network.accuracy, attacked=network.attacked,
    )  # fmt: skip


def specification(perturbation: str, width: float = FULL_WIDTH) -> tuple[str, ...]:
    """The chain of a set, its ranges shrunk about 0 by ``width``."""
    return tuple(
        text.format(low=low * width, high=high * width)
        for text, low, high in (_LINKS[name] for name in SETS[perturbation])
    )


def chosen_images(subjects: Sequence[Subject], data: DataSet, count: int) -> tuple[str, ...]:
    """The first held-out images that every network of the data set classifies rightly.

    Raises SettingError where there are not so many.
    """
    part = data.held_out
    images, labels = part.images[:CANDIDATES].double(), part.labels[:CANDIDATES]
    rightly = torch.ones(len(labels), dtype=torch.bool)
    for subject in subjects:
        network = load_network(
            subject.model,
            input_shape=tuple(part.images.shape[1:]),  # pyright: ignore[reportArgumentType] (three of them)
            layout=subject.layout,
            mean=subject.mean,
            std=subject.std,
        )
        rightly &= network.graph.forward(images).argmax(1) == labels
    numbers = torch.nonzero(rightly).ravel().tolist()[:count]
    if len(numbers) < count:
        raise SettingError(
            f"only {len(numbers)} of {len(labels)} held-out images of {data.name} are classified rightly by "
            f"all of its {len(subjects)} networks, where {count} are needed; give more images or fewer "
            "networks"
        )
    return tuple(part.sources[number] for number in numbers)


def plan_of(subjects: Sequence[Subject], sets: dict[str, DataSet], form: Form) -> Plan:
    """All cases of the study; the first image of every network before the second of any.

    So an unfinished study tells of all networks, and one of few images is the beginning of one of many.
    """
    by_image: list[list[PlannedCase]] = [[] for _ in range(form.images)]
    for data in sets.values():
        here = [subject for subject in subjects if subject.data == data.name]
        sources = chosen_images(here, data, form.images) if here else ()
        for subject in here:
            for number, source in enumerate(sources):
                by_image[number] += _cases(subject, source, number < form.cost_images, form)
    cases = [case for of_image in by_image for case in of_image]
    return Plan(f"nfm2023 {form.name}", tuple(cases))


def _cases(subject: Subject, source: str, measures_cost: bool, form: Form) -> Iterator[PlannedCase]:
    for perturbation in SETS:
        if measures_cost:
            for width in form.widths:
                for method in ("sweep", "bfs", "gbs"):
                    yield _case(subject, source, perturbation, width, DELTA, method, form)
        for threshold in sorted({*form.thresholds, DELTA, CLASS_ONLY}):
            for method in _engines(threshold):
                yield _case(subject, source, perturbation, FULL_WIDTH, threshold, method, form)


def _engines(threshold: float) -> tuple[str, ...]:
    """All engines are compared at one threshold; ranges also come from the two that find them at others."""
    if threshold == DELTA:
        return ENGINES
    return ("sweep", "gbs") if threshold == CLASS_ONLY else ("sweep",)


def _case(
    subject: Subject, source: str, perturbation: str, width: float, threshold: float, method: str, form: Form
) -> PlannedCase:
    settings = {
        "model": subject.model,
        "image": source,
        "perturb": specification(perturbation, width),
        "threshold": threshold,
        "method": method,
        "layout": subject.layout,
        "time_limit": form.time_limit,
        "memory_limit": form.memory_limit,
    }
    if subject.mean is not None and subject.std is not None:
        settings |= {"mean": subject.mean, "std": subject.std}
    return PlannedCase(
        make_case(settings),
        {
            "network": subject.name,
            "data": subject.data,
            "training": subject.training,
            "architecture": subject.architecture,
            "family": subject.family,
            "accuracy": subject.accuracy,
            "attacked": subject.attacked,
            "perturbation": perturbation,
            "width": width,
            "image": source.rpartition("/")[2],
        },
    )
