"""The model as it was handed in, run by its own runtime in its own precision: the witness against our graph.

Nothing here uses the graph: layout and normalisation are applied again, to numpy arrays.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, TypeAlias

import numpy as np
import onnx
import onnxruntime
import torch
from torch import Tensor

from steadygaze.deadline import NEVER, Deadline
from steadygaze.errors import ModelError
from steadygaze.network.reading.from_onnx.precision import in_single
from steadygaze.network.reading.from_torch.surroundings import traceless, undisturbed
from steadygaze.network.reading.onnx_gradients.evaluator import OnnxEvaluator

Layout: TypeAlias = Literal["chw", "hwc", "flat"]
LAYOUTS: tuple[Layout, ...] = ("chw", "hwc", "flat")

# The numbers that onnxruntime takes, where they are not of single precision.
_DTYPES = {"tensor(double)": np.float64, "tensor(float16)": np.float16}
# Images differentiated at once: bounds the memory that autograd keeps.
_ROWS = 32


@dataclass(frozen=True)
class Preparation:
    """What a model wants done to pixels ``(B, C, H, W)`` in [0, 1].

    That is ``(x - mean) / std`` per channel, times `scale`, and a layout.
    `row` is the shape of one image as the model takes it, the batch left out; `batched` is False for a model
    that takes one image without any batch axis; `scale` is 255 for one that takes whole numbers.
    """

    layout: Layout
    mean: tuple[float, ...]
    std: tuple[float, ...]
    row: tuple[int, ...]
    batched: bool = True
    scale: float = 1.0

    def apply(self, images: np.ndarray) -> np.ndarray:
        """Model inputs, float64 ``(B, *row)``."""
        x = images
        if not self._keeps_values:
            column = (-1, 1, 1)
            x = (images - np.reshape(self.mean, column)) / np.reshape(self.std, column) * self.scale
        x = x.transpose(0, 2, 3, 1) if self.layout == "hwc" else x
        return np.ascontiguousarray(x.reshape(len(images), *self.row))

    def undo_gradient(self, gradients: np.ndarray, image_shape: tuple[int, ...]) -> np.ndarray:
        """Gradients with respect to pixels ``(B, C, H, W)``, of those with respect to model inputs."""
        channels, height, width = image_shape
        if self.layout == "hwc":
            g = gradients.reshape(-1, height, width, channels).transpose(0, 3, 1, 2)
        else:
            g = gradients.reshape(-1, channels, height, width)
        return g if self._keeps_values else g * self.scale / np.reshape(self.std, (-1, 1, 1))

    @cached_property
    def _keeps_values(self) -> bool:
        """Whether pixels are taken as they are."""
        return not any(self.mean) and all(one == 1 for one in (*self.std, self.scale))


class AbstractOriginal(ABC):
    """The model in its own runtime."""

    preparation: Preparation

    @abstractmethod
    def logits(self, images: np.ndarray) -> np.ndarray:
        """Logits ``(B, K)`` at pixels ``(B, C, H, W)``, in the model's own precision."""

    @abstractmethod
    def gradient(self, images: np.ndarray, label: int) -> np.ndarray | None:
        """Gradient ``(B, C, H, W)`` of one logit by the pixels, float64; None where the runtime has none.

        It is computed in the model's own precision.
        """

    def in_double(self) -> AbstractOriginal | None:
        """The same model with its weights as they are and its arithmetic in float64; None where it has none.

        Nothing of this one changes.
        """
        return None

    @property
    def differentiates_in_double(self) -> bool:
        """Whether its gradients are computed in float64, whatever precision its logits have."""
        return False

    def gradients(self, images: np.ndarray, label: int) -> np.ndarray:
        """Gradients ``(B, C, H, W)``, float64, of logit `label` by pixels ``(B, C, H, W)`` in [0, 1].

        They come from the model as it was handed in, never from the imported graph; pixels are as handed to
        the classifier, before its normalisation and layout. Raises ModelError where there are none.
        """
        found = self.gradient(images, label)
        if found is None:
            raise ModelError(
                "the network gives no gradients by PyTorch, allowed are modules that autograd runs through; "
                "let it neither detach values nor change them in place"
            )
        return found


class OnnxOriginal(AbstractOriginal):
    """An ONNX model in onnxruntime, on one thread, which has no gradients; they come from `OnnxEvaluator`."""

    def __init__(self, model: onnx.ModelProto, logits_name: str, preparation: Preparation) -> None:
        self.preparation = preparation
        self._model, self._logits_name = model, logits_name
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 4
        self._session = _session(_ending_in(model, logits_name), options)
        source = self._session.get_inputs()[0]
        self._input = source.name
        self._dtype = _DTYPES.get(source.type, np.float32)
        self._together = not isinstance(source.shape[0], int) and self._takes_batches()

    def logits(self, images: np.ndarray) -> np.ndarray:
        rows = self.preparation.apply(images).astype(self._dtype)
        return self._run(rows).reshape(len(images), -1) if self._together else self._run_singly(rows)

    def gradient(self, images: np.ndarray, label: int) -> np.ndarray | None:
        del images, label
        return None

    @property
    def differentiates_in_double(self) -> bool:
        return True  # so does `OnnxEvaluator`

    def gradients(self, images: np.ndarray, label: int) -> np.ndarray:
        rows = self.preparation.apply(images)
        if self._gradients_together:
            batches = [rows[first : first + _ROWS] for first in range(0, len(rows), _ROWS)]
        else:
            batches = [row[None] if self.preparation.batched else row for row in rows]
        counts = [len(batch) if self._gradients_together else 1 for batch in batches]
        found = [self._evaluator.gradient(b, n, label) for b, n in zip(batches, counts, strict=True)]
        return self.preparation.undo_gradient(np.concatenate(found), images.shape[1:])

    @cached_property
    def _evaluator(self) -> OnnxEvaluator:
        return OnnxEvaluator(self._model, self._logits_name)

    @cached_property
    def _gradients_together(self) -> bool:
        """Whether the evaluator takes several images at once, as it may where onnxruntime does not: the file
        may declare one image, and name no number inside.
        """
        if self._together or not self.preparation.batched:
            return self._together
        rows = np.random.default_rng(0).uniform(0, 1, (3, *self.preparation.row))
        singly = np.concatenate([self._evaluator.logits(row[None], 1) for row in rows])
        try:
            together = self._evaluator.logits(rows, len(rows))
        except (RuntimeError, IndexError, ValueError):  # a shape inside is that of one image
            return False
        return together.shape == singly.shape and np.allclose(together, singly, 1e-9, 1e-9)

    def _takes_batches(self) -> bool:
        """Whether three images at once give what they give one by one: a reshape inside may fix the batch."""
        rows = np.random.default_rng(0).uniform(0, 1, (3, *self.preparation.row)).astype(self._dtype)
        singly = self._run_singly(rows)
        try:
            together = self._run(rows)
        except ModelError:
            return False
        return together.size == singly.size and np.allclose(together.reshape(3, -1), singly, 1e-3, 1e-3)

    def _run_singly(self, rows: np.ndarray) -> np.ndarray:
        batches = (row[None] if self.preparation.batched else row for row in rows)
        return np.stack([self._run(batch).reshape(-1) for batch in batches])

    def _run(self, batch: np.ndarray) -> np.ndarray:
        try:
            return np.asarray(self._session.run(None, {self._input: batch})[0])
        except Exception as error:  # as above
            raise _not_run(error) from error


class TorchOriginal(AbstractOriginal):
    """A PyTorch module in evaluation mode, with autograd.

    It runs as if alone, whatever mode of gradients, inference or autocast the caller is in. Raises ModelError
    if its logits for one image are not finite, or not the same every time.

    Args:
        module: takes `preparation.row`, in evaluation mode. dtype: of its input.
        in_order: whether none of its steps permutes axes, see `keeps_order`.
        singly: whether it gets image by image, and is not tried with several: that takes seven passes, and
            of a large one nothing is gained by it.
        late: when it is too late to try: raises Expired.
    """

    def __init__(
        self,
        module: torch.nn.Module,
        dtype: torch.dtype,
        preparation: Preparation,
        *,
        in_order: bool = False,
        singly: bool = False,
        late: Deadline = NEVER,
    ) -> None:
        self.preparation = preparation
        self._module = module
        self._dtype = dtype
        self._in_order = in_order
        self._together = False
        with traceless():
            self._together = self._takes_batches(singly, late)

    def logits(self, images: np.ndarray) -> np.ndarray:
        with undisturbed(gradients=False):
            return self._logits(self._inputs(images)).numpy()

    def gradient(self, images: np.ndarray, label: int) -> np.ndarray | None:
        inputs, found = self._inputs(images), []
        try:
            with undisturbed(gradients=True):
                for rows in inputs.split(_ROWS):
                    found.append(self._slopes(rows, label))
        except RuntimeError:  # the module overwrites what its gradient needs, or runs without gradients
            return None
        return self.preparation.undo_gradient(torch.cat(found).numpy().astype(np.float64), images.shape[1:])

    @property
    def differentiates_in_double(self) -> bool:
        return self._dtype == torch.float64

    def in_double(self) -> AbstractOriginal | None:
        if self._dtype == torch.float64:
            return self
        wide = copy.copy(self)  # it takes images together where this one does
        try:
            with traceless(), undisturbed(gradients=False):
                wide._module, wide._dtype = copy.deepcopy(self._module).double(), torch.float64
            rows, theirs = self._known[0], self._known[1].double()
            with undisturbed(gradients=False):
                ours = wide._logits(rows.double())
        except Exception:  # the module's own code runs here, and may insist on its own precision
            return None
        # A module that converts to its own precision by itself is not converted.
        near = 1e-2 * float(ours.abs().max())
        return wide if ours.dtype == torch.float64 and torch.allclose(ours, theirs, 1e-2, near) else None

    def _slopes(self, rows: Tensor, label: int) -> Tensor:
        """Gradients by the rows ``(B, *row)``.

        PyTorch's batch normalisation loses the order of a single image's gradient where tokens are made of
        its output, as in vision transformers with convolutions before: a single image is taken twice.
        """
        twice = self._together and len(rows) == 1 and not self._in_order and self._normalises
        leaf = (torch.cat([rows, rows]) if twice else rows.clone()).requires_grad_()
        (found,) = torch.autograd.grad(self._logits(leaf)[: len(rows), label].sum(), leaf)
        return found[: len(rows)]

    @cached_property
    def _normalises(self) -> bool:
        return any(name.endswith("running_mean") for name, _ in self._module.named_buffers())

    def _inputs(self, images: np.ndarray) -> Tensor:
        return torch.from_numpy(self.preparation.apply(images)).to(self._dtype)

    def _logits(self, inputs: Tensor) -> Tensor:
        # The module gets a copy each time: it may overwrite what it is given.
        if self._together:
            return self._module(inputs.clone()).reshape(len(inputs), -1)
        rows = inputs[:, None] if self.preparation.batched else inputs
        return torch.stack([self._module(row.clone()).reshape(-1) for row in rows])

    def _rows(self, count: int) -> Tensor:
        generator = torch.Generator().manual_seed(0)
        return torch.rand((count, *self.preparation.row), generator=generator).to(self._dtype)

    def _takes_batches(self, singly: bool, late: Deadline) -> bool:
        """Whether two images at once give what they give one by one: a module may be fixed to one.

        One that looks at all images together, if only at the largest number of all, has other gradients.
        singly: nothing is asked but whether a single image gives finite numbers, and the same every time.
        """
        rows = self._rows(1 if singly else 2)
        with undisturbed(gradients=False):
            alone = self._logits(rows)
            late.ask()
            self._check(alone)
            self._known = rows[:1], alone[:1]
            if not singly and self.preparation.batched and self._agree_together(rows, alone):
                return True
            late.ask()
            self._check_again(alone[-1:], self._logits(rows[-1:]))
        return False

    def _agree_together(self, rows: Tensor, alone: Tensor) -> bool:
        """Whether two rows together give their logits ``(2, K)``, and the first the same beside any other."""
        beside = torch.cat([rows[:1], 2.0 * rows[1:]])
        try:
            together, others = self._module(rows.clone()), self._module(beside)
        except Exception:  # the module's own code runs here
            return False
        near = 1e-4 * float(alone.abs().max())
        if together.numel() != alone.numel():
            return False
        together, others = together.reshape(2, -1), others.reshape(2, -1)
        return torch.equal(together[0], others[0]) and torch.allclose(together, alone, 1e-4, near)

    def _check(self, logits: Tensor) -> None:
        if not logits.isfinite().all():
            raise ModelError(
                "the network's logits are NaN or infinite for an image of random numbers, allowed are finite "
                "ones; look for weights or a normalisation out of range"
            )

    def _check_again(self, logits: Tensor, again: Tensor) -> None:
        if not torch.allclose(logits, again, 1e-3, 1e-3 * float(logits.abs().max())):
            raise ModelError(
                "the network gives the same image different logits from one call to the next, allowed are "
                "networks that do the same every time; take random numbers and counters out"
            )


def _session(model: onnx.ModelProto, options: onnxruntime.SessionOptions) -> onnxruntime.InferenceSession:
    """The runtime with the file; in single precision where it knows a layer in no other."""
    try:
        return onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # the runtime raises half a dozen unrelated types
        single = in_single(model)
        if "NOT_IMPLEMENTED" not in str(error) or single == model:
            raise _not_run(error) from error
        return _session(single, options)


def _not_run(error: Exception) -> ModelError:
    said = " ".join(str(error).split())
    return ModelError(
        f"onnxruntime cannot run the network ({said}), allowed is one that it runs; export it again"
    )


def _ending_in(model: onnx.ModelProto, name: str) -> onnx.ModelProto:
    if model.graph.output[0].name == name:
        return model
    shortened = onnx.ModelProto()
    shortened.CopyFrom(model)
    del shortened.graph.output[:]
    shortened.graph.output.append(onnx.helper.make_empty_tensor_value_info(name))
    return shortened
