"""What was asked, as plain records: the model, the image, the perturbations, and how maps are compared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from steadygaze.answer.words import given, listing


@dataclass(frozen=True)
class ModelInfo:
    """``note`` says how what was verified differs from the file, if it does.

    ``sha256`` is that of the file, None where there is none. ``graph_sha256`` is that of the network as it
    was read: every layer and constant, with layout and normalisation.
    """

    path: str
    sha256: str | None
    units: int
    parameters: int
    note: str | None = None
    graph_sha256: str | None = None


@dataclass(frozen=True)
class ImageInfo:
    """``label`` is the class asked about; ``dataset_label`` is what the data set says, where it does.

    ``sha256`` is that of the pixels as they were handed over: float64, little-endian, (C, H, W).
    ``dataset_class`` is the data set's name for its label, ``conversions`` what was done to the stored pixels
    before they were handed over, in order.
    """

    source: str | None
    index: int | None
    shape: tuple[int, ...]
    label: int
    predicted: int
    dataset_label: int | None = None
    sha256: str | None = None
    dataset_class: str | None = None
    conversions: tuple[str, ...] = ()

    def true_class(self) -> str:
        """What the data set says the class is: its number, and its name where that says more."""
        named = self.dataset_class is not None and self.dataset_class != str(self.dataset_label)
        return f"{self.dataset_label} ({self.dataset_class})" if named else f"{self.dataset_label}"


@dataclass(frozen=True)
class ParameterInfo:
    name: str
    unit: str
    range: tuple[float, float]


@dataclass(frozen=True)
class PerturbationInfo:
    """``arrays`` holds the SHA-256 of each array that it uses; ``type`` names the class of one's own."""

    name: str
    constants: Mapping[str, Any]
    parameters: tuple[ParameterInfo, ...]
    arrays: Mapping[str, str] = field(default_factory=dict)
    type: str | None = None


@dataclass(frozen=True)
class Axis:
    """One parameter of the whole chain; ``name`` is unique, e.g. ``brightness.amount``."""

    name: str
    unit: str
    low: float
    high: float


CLASS_AND_ATTENTION, CLASS_ALONE = "class and attention", "class"


@dataclass(frozen=True)
class ProblemInfo:
    """What was asked: all that the answer depends on.

    Attributes:
        model: the network: its path, digests and size.
        image: the image: where it comes from, its digest, shape and label.
        perturbation: the links of the chain, with their constants and parameters.
        clip: the legal range of pixels; None where they were not clipped.
        saliency: the name of the map.
        inconsistency: the name of the measure.
        threshold: δ.
        must_hold: `"class and attention"`, or `"class"`, where no map is compared: saliency and inconsistency
            are then `"none"`, and the threshold is 0.
        channel_sum: whether maps were summed over the channels.
        layer: the layer that a Grad-CAM map is made in; None for maps of the pixels.
        baseline: where the path of integrated gradients begins: black, mean or given, and then its digest;
            None for other maps. baseline_source: where that image comes from, None where it came as an array.
        layout: how the model takes its images.
        mean: of its normalisation, for each channel.
        std: likewise.
        output: the one of several outputs that was taken; None where there is one.
        k: how many entries top-k counts, or which share of them.
    """

    model: ModelInfo
    image: ImageInfo
    perturbation: tuple[PerturbationInfo, ...]
    clip: tuple[float, float] | None
    saliency: str
    inconsistency: str
    threshold: float
    must_hold: str = CLASS_AND_ATTENTION
    channel_sum: bool = False
    layer: str | None = None
    baseline: str | None = None
    baseline_source: str | None = None
    layout: str | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    output: str | None = None
    k: float | None = None

    def axes(self) -> tuple[Axis, ...]:
        """The parameters side by side, in the order of θ; a perturbation used twice is numbered."""
        names = [link.name for link in self.perturbation]
        axes: list[Axis] = []
        for position, link in enumerate(self.perturbation):
            repeated = names.count(link.name) > 1
            owner = f"{link.name}[{names[: position + 1].count(link.name)}]" if repeated else link.name
            axes += [
                Axis(f"{owner}.{p.name}", p.unit, float(p.range[0]), float(p.range[1]))
                for p in link.parameters
            ]
        return tuple(axes)

    @property
    def class_alone(self) -> bool:
        """Whether only the class had to hold."""
        return self.must_hold == CLASS_ALONE

    def basis(self) -> str:
        """The saliency map in words."""
        where = "" if self.layer is None else f" at layer {self.layer!r}"
        where += "" if self.baseline is None else f" from {self.begins()}"
        return f"{self.saliency} map{where}" + (", summed over the channels" if self.channel_sum else "")

    def begins(self) -> str:
        """Where the path of integrated gradients begins, in words."""
        name, _, digest = (self.baseline or "none").partition(":")
        if not digest:
            return f"a baseline that is {name}"
        source = "an image that was given" if self.baseline_source is None else self.baseline_source
        return f"the baseline {source} (SHA-256 {digest[:12]}…)"

    def terms(self) -> str:
        """What must hold, in a few words."""
        if self.class_alone:
            return "the class alone"
        return f"{self.basis()}, {self.inconsistency} ≤ {given(self.threshold)}"

    def model_sentences(self) -> tuple[str, ...]:
        """How what was verified differs from the model as it was handed in, if it does."""
        return (f"The model: {self.model.note}.",) if self.model.note else ()

    def layer_sentences(self) -> list[str]:
        """Where a map of a layer looks, in one sentence; none for maps of the pixels."""
        if self.layer is None:
            return []
        return [f"Attention is the {self.saliency} map at layer {self.layer!r}; --layer chooses another."]

    def image_sentences(self) -> list[str]:
        """What was done to the stored image, and whether the network is wrong about it from the start."""
        image, told = self.image, list[str]()
        if image.conversions:
            told.append(f"The image, before anything else: {'; '.join(image.conversions)}.")
        if image.dataset_label is not None and image.dataset_label != image.predicted:
            told.append(
                f"The network is wrong about the unperturbed image: it predicts class {image.predicted}, "
                f"while the data set says {image.true_class()}. The proof is of class {image.label}. Where "
                "it should be right, look at how it takes pixels, which lie in [0, 1] here: --mean, --std "
                "(1/255 if it takes them from 0 to 255), --layout."
            )
        wide = [axis for axis in self.axes() if axis.unit == "pixel value" and max(-axis.low, axis.high) > 1]
        if wide:
            told.append(
                f"Beyond -1 and 1 {wide[0].name} leaves no pixel as it was, for pixels lie in [0, 1] here: "
                "if its range counts levels from 0 to 255, divide it by 255."
            )
        return told

    def question(self) -> str:
        """What was asked, in one sentence."""
        changes = listing([f"{a.name} from {given(a.low)} to {given(a.high)}" for a in self.axes()])
        asked = f"May this image change by {changes} without the network leaving class {self.image.label}"
        if self.class_alone:
            return f"{asked}? (The class alone: no attention is asked about.)"
        return (
            f"{asked}, "
            f"and without its attention (the {self.basis()}) moving further than {given(self.threshold)} "
            f"({self.inconsistency}) from where it should be?"
        )
