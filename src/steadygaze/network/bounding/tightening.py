"""Ranges of units over boxes, the tightest of what forms, bands, ranges and rows carried backward say.

Where nothing has bent the values yet, they are affine in the coordinates, but for little, and forms say all.
Behind one layer that is not affine, bands say what rows would. From the second on each unit that may be on
several pieces, and whose range is wider than what the coordinates alone explain, is asked for by two rows.
"""

from __future__ import annotations

import math
from dataclasses import replace
from enum import Enum

import torch
from torch import Tensor

from steadygaze.deadline import NEVER, Deadline
from steadygaze.enclosing.enclosures import UNIT
from steadygaze.enclosing.forms import Forms, numbers_of
from steadygaze.enclosing.hinges import in_all
from steadygaze.network.bounding.rows.backward import Backward
from steadygaze.network.bounding.rows.bands import Band, moved, moved_by_few
from steadygaze.network.bounding.rows.ends import End, least_of
from steadygaze.network.bounding.rows.few_bent import FewBent
from steadygaze.network.bounding.rows.last_bend import LastBend
from steadygaze.network.bounding.rows.lines import (
    Lines,
    Range,
    is_leaky,
    lines_of,
    piecewise_lines,
    size_of,
    smooth_lines,
    values_of,
)
from steadygaze.network.bounding.rows.product_lines import ProductLines
from steadygaze.network.bounding.rows.window_lines import (
    WindowLines,
    kept_low,
    lines_behind_maxima,
    window_lines,
)
from steadygaze.network.columns import columns_of
from steadygaze.network.graph import Graph
from steadygaze.network.joint import Multiply
from steadygaze.network.layers import AbstractAffine, Dense
from steadygaze.network.pieces import MaxPool, PiecewiseLinear
from steadygaze.network.smooth import Smooth

# Values count as affine where what else moves them is below this share of how far they reach.
_AFFINE = 1e-4
# Behind maxima rows take a quarter of a box's time: there what else moves pixels has to be more than this,
# and they gain nothing where ReLU alone reads the maxima.
_FAR_OFF = 0.2
# Where all of what moves pixels is shared, those lines are best that are closest in the middle of ranges.
# What pixels are off by is each one's own, and a row is least where it is at the worse end for all at once.
# By as much as that is of all, but no further than this, lines below windows are chosen nearer to the low
# end. In the middle Convnet_maxpool was up to 6 % wider than CROWN (affine map of four, image 12, k = 0).
_LEAST = 0.25
# Rows end at a dense layer where no more than this share of its inputs is off, or moves with coordinates.
# Errors below that share of the largest are left to what cancels nowhere.
_FEW_OFF, _SLIGHT = 0.7, 1e-9
# A unit is asked for if its range is wider by this factor than its affine part. With a fiftieth in place of a
# 200th cifar-pgd-r10 (image 5, k = 6) was wider than CROWN by 0.06 %; elsewhere it is as good, and as fast.
_LOOSE = 1.005
# Rows come to units with what bands know of them. Where all that is known says less than this share of
# it, lines that are closest over all of it may be better.
_WIDER = 1.001
# Ranges wider than this share of |W| |x| + |b| are sought in float32: what its rounding adds, some 1e-5 of it
# for each layer, is hardly a thousandth of them. Where they are narrower it made gaps wider by a percent.
_COARSE = 0.5
# Rows are sought a second time, with other slopes, in boxes that ask for no more than this share of a node's
# units; and then for all, as long as they leave no more than that of their ranges. In few boxes it gains more
# than a percent, but there gaps became up to 40 % narrower. Where there are few rows at all, always.
_FEW_ASKED, _GAIN = 0.25, 0.99
# Layers of more units have symbols for no more than a handful of them where rows are asked for units: see
# `Tightening.room`. With 1,024 in place of 4,096 resnet_2b (2,048) was wider by 0.2 %, asked for more units,
# and took an eighth longer; without the handful mnist-pgd-t2 (exposure, image 14, k = 4) was wider by 1.9 %.
_LARGE, _HANDFUL = 4096, 8
# Rows are sought a second time for all that is asked where they have fewer entries together: that takes next
# to no time. Two fifths of a box's it took where 230 rows went back through maps of 6,272
# (mnist-cgt-sc5r5c5b, four amounts, k = 1), for a width of 0.51 of CROWN's, and 0.53 without.
_FEW = 2**16
# Rows are sought in float32 where they have more entries than this for each box. Below, that saves little,
# and in deep networks what rounding adds may be a tenth of a range: bands may be a hundred times as wide as
# what rows say. A residual network of eight convolutions was 0.4 % wider than CROWN, mnist-net_256x4 (a
# bilinear shift) 0.15 %; in float64 neither is.
_HEAVY = 2**24

# Rows that may grow by more than this on their way are not sought in float32: what they lose below its least
# normal number, 2^-126, is then below the 2^-60 of sizes that is counted (see `lines`).
_GROWTH = 2.0**40


class Effort(Enum):
    """What is done for tight bounds; from forms to units each does what those before it do, and more."""

    POLYNOMIALS = -1
    """Polynomials in place of forms; for few parameters."""
    FORMS = 0
    """Forms alone."""
    GAPS = 1
    """Bands, and rows for the class gaps."""
    UNITS = 2
    """Rows for units whose ranges are loose."""
    PIXELS = 3
    """Forms alone, with a symbol for what each pixel may be off by: see `bounds_over`."""


class Tightening:
    """Goes along with an evaluation by forms, node by node, and collects what `Backward` needs."""

    def __init__(
        self, graph: Graph, pixels: Forms, start: int, effort: Effort, deadline: Deadline = NEVER
    ) -> None:
        self._graph, self._asks = graph, effort is Effort.UNITS
        multiplies = any(isinstance(node.layer, Multiply) for node in graph.nodes)
        self._may_narrow = (
            not multiplies and pixels.error.device.type == "cpu" and _is_precise() and graph.growth < _GROWTH
        )
        self.backward = Backward(graph, deadline=deadline)
        self._bands: dict[int, Band] = {}
        self._ranges: dict[int, tuple[Tensor, Tensor]] = {}
        self._depth = {start: 0}
        # Forms behind the first layers that are not affine: bands may differ from them at few places.
        self._first: dict[int, Forms] = {}
        # Whether pixels are off their affine parts by more than next to nothing; and by much.
        off = _off(pixels)
        self._is_off, self._is_far_off = (not bool((off <= share).all()) for share in (_AFFINE, _FAR_OFF))
        # Where in their ranges inputs of windows are compared for the lines below.
        self._at = (0.5 - off).clamp_min(_LEAST)
        # Boxes in which what is known of ranges chooses other slopes than rows do; and what share of a node's
        # units may be asked for with these.
        self._differs = torch.zeros(len(pixels.error), dtype=torch.bool, device=pixels.error.device)
        self._allowed = torch.full_like(pixels.error.flatten(1)[:, 0], _FEW_ASKED)
        # Where rows for units end besides.
        self._halts: dict[int, End] = {}
        self._ground(start, pixels)

    def affine(self, index: int, forms: Forms) -> None:
        """Take in an affine node, whose values have these forms."""
        sources = self._graph.nodes[index].inputs
        self._depth[index] = max(self._depth[source] for source in sources)
        grounded = not self._is_off and all(source in self.backward.grounds for source in sources)
        if grounded and _is_affine(forms):
            self._ground(index, forms)
            return
        if not self._depth[index]:  # bands would say the same, and of symbols less
            self._know(index, Band.of(forms), forms.bounds())
            self._end_with_errors(index, forms)
            return
        layer = self._graph.nodes[index].layer
        assert isinstance(layer, AbstractAffine), "the caller says so"
        bands = [self._bands[source] for source in sources]
        ranges = [self._ranges[source] for source in sources]
        first = self._first.get(sources[0]) if len(sources) == 1 else None
        done = None if first is None else moved_by_few(layer, bands[0], ranges[0], first, forms)
        band, known = moved(layer, bands, ranges) if done is None else done
        if self._may_end_early(sources[0]):
            few = FewBent.of(layer, bands[0], band)
            if few is not None:
                self.backward.early[index] = few
        self._add(index, forms, band, known)

    def _end_with_errors(self, index: int, forms: Forms) -> None:
        """Have rows end at a dense layer that reads pixels, where few of these are off their affine parts.

        What errors of pixels add cancels there as it does at the pixels, and of the weights that is enough.
        """
        (source, *_), layer = self._graph.nodes[index].inputs, self._graph.nodes[index].layer
        if not isinstance(layer, Dense) or forms.symbols or len(self._graph.readers[source]) > 1:
            return
        if any(isinstance(self._graph.nodes[other].layer, Dense) for other in self.backward.ends):
            return  # errors of the same pixels would no longer cancel between the two
        error = self._bands[source].error
        if error.ndim > 2:
            return
        # What is left where pixels are not off is rounding.
        off = (error > _SLIGHT * error.amax(dim=1, keepdim=True)).any(dim=0)
        if int(off.sum()) + forms.rows.shape[1] > _FEW_OFF * len(off):
            return
        places = off.nonzero()[:, 0]
        rounding = (2 * layer.terms + 16) * UNIT * self.backward.scale(index)
        rounding = rounding + layer.absolute.linear(torch.where(off, 0.0, error)) * (1 + 2.0**-30)
        # What errors of pixels add is part of the forms' errors.
        size, weights = forms.size + forms.error, columns_of(layer.weight, places)
        self.backward.ends[index] = End.of_errors(forms.rows, weights, error[:, places], size, rounding)

    def _may_end_early(self, source: int) -> bool:
        """Whether rows end behind a node, and nothing that another reads of it cancels there."""
        return len(self._graph.readers[source]) == 1 and source in self.backward.ends and not self._is_off

    def ranges(self, index: int, forms: Forms) -> tuple[Tensor, Tensor]:
        """Least and largest inputs ``(B, N)`` of a node that is not affine, whose input has these forms."""
        source, layer = self._graph.nodes[index].inputs[0], self._graph.nodes[index].layer
        assert isinstance(layer, PiecewiseLinear | MaxPool | Smooth), "the caller says so"
        flat = forms.flattened()
        low, high = (bound.flatten(1) for bound in self._ranges[source])
        if self._asks and self._depth[source] >= 2:
            own = flat.rows[:, 1 : 1 + flat.count].abs().sum(dim=1)
            asked = _torn(layer, low, high) & (high - low > 2 * _LOOSE * own)
            if asked.any():
                others = self._asked_of_both(source, asked)
                if others is None:
                    self._bands[source] = self._asked(source, asked, high - low)
                least, most = self._bands[source].bounds
                low, high = torch.fmax(low, least.flatten(1)), torch.fmin(high, most.flatten(1))
                if others is None:
                    low, high = self._turned(source, asked & _torn(layer, low, high), low, high)
                else:
                    low, high = torch.fmax(low, others[0]), torch.fmin(high, others[1])
                self._ranges[source] = low.reshape(forms.error.shape), high.reshape(forms.error.shape)
                self.backward.sizes[source] = size_of(*self._ranges[source])
        self._draw(index, flat, low, high)
        return low, high

    def _draw(self, index: int, flat: Forms, low: Tensor, high: Tensor) -> None:
        """Take in the lines of a node that is not affine, whose inputs ``(B, N)`` have forms and ranges."""
        source, layer = self._graph.nodes[index].inputs[0], self._graph.nodes[index].layer
        assert isinstance(layer, PiecewiseLinear | MaxPool | Smooth), "the caller says so"
        if isinstance(layer, MaxPool):
            self.backward.lines[index] = window_lines(
                layer, flat, low, high, self._is_rectified(index), self._at
            )
            return
        maxima = self.backward.lines.get(source)
        if isinstance(maxima, WindowLines) and self._is_rectified(source):
            least, most = self._ranges[self._graph.nodes[source].inputs[0]]
            winners = least.flatten(1).gather(1, maxima.winner), most.flatten(1).gather(1, maxima.winner)
            assert isinstance(layer, PiecewiseLinear), "only ReLU reads it"
            self.backward.lines[index] = lines_behind_maxima(layer, low, high, winners, self._at)
            return
        known, others = (low, high), None
        leaky = isinstance(layer, PiecewiseLinear) and is_leaky(layer)
        # In front of the first layer that bends values bands say no more than forms.
        if not self._asks or not (leaky or self._depth[source]):
            lines = lines_of(layer, low, high)
        else:
            least, most = (bound.flatten(1) for bound in self._bands[source].bounds)
            wide = (least, most)
            if not leaky and not (most - least > _WIDER * (high - low)).any():
                lines = lines_of(layer, low, high)
            elif isinstance(layer, Smooth):
                lines, others = smooth_lines(layer, known, wide)
            else:
                lines, others = piecewise_lines(layer, known, wide)
        self.backward.lines[index] = lines
        if others is None:
            return
        self.backward.others[index] = others
        if isinstance(layer, PiecewiseLinear) and isinstance(lines, Lines):
            self._differs |= ((lines.below != others.below) | (lines.above != others.above)).any(dim=1)

    def bent(self, index: int, forms: Forms) -> None:
        """Take in a node that is not affine, whose values have these forms."""
        source = self._graph.nodes[index].inputs[0]
        if source in self.backward.grounds and _is_affine(forms):
            self._depth[index] = self._depth[source]
            self._ground(index, forms)
            return
        self._depth[index] = self._depth[source] + 1
        maxima = isinstance(self._graph.nodes[index].layer, MaxPool)
        off = self._is_far_off and not self._is_rectified(index) if maxima else self._is_off
        if off and not self._depth[source]:
            # Bands add up what pixels are off by, unit by unit; from here on only rows let it cancel.
            self._depth[index] = 2
        node, (low, high) = self._graph.nodes[index], self._ranges[source]
        assert isinstance(node.layer, PiecewiseLinear | MaxPool | Smooth), "the caller says so"
        band = self._bands[source].through(self.backward.lines[index], node.shape)
        if self._ends_behind(source) and index not in self.backward.others:
            self.backward.ends[index] = End.of_band(band)
        self._bend(index, node.layer, source)
        if not self._depth[source]:
            self._first[index] = forms
        least, most = values_of(node.layer, low.flatten(1), high.flatten(1))
        known = (least.reshape(forms.error.shape), most.reshape(forms.error.shape))
        lines = self.backward.lines[index]
        if not (isinstance(lines, WindowLines) and self._is_rectified(index)):
            self._add(index, forms, band, known)
            return
        least, whole = (
            own.reshape(forms.error.shape)
            for own in kept_low(lines.layer, lines.winner, low.flatten(1), high.flatten(1))
        )
        # What forms say of all inputs from below need not hold of those that are kept.
        bounds = torch.where(whole, forms.bounds()[0], least), forms.bounds()[1]
        self._meet(index, band, (least, known[1]), bounds)

    def _bend(self, index: int, layer: PiecewiseLinear | MaxPool | Smooth, source: int) -> None:
        """Keep what is known before the last node that is not affine, if rows may choose its slopes."""
        last, lines = self.backward.last_bend, self.backward.lines
        last.clear()
        # Slopes behind windows are chosen together with the windows' lines.
        ends = index in self.backward.ends or isinstance(lines.get(source), WindowLines)
        if isinstance(layer, PiecewiseLinear) and layer.is_hinge and not ends:
            widest = max(math.prod(node.shape) for node in self._graph.nodes[: index + 1])
            last[index] = LastBend(layer, self._bands[source], widest)

    def _is_rectified(self, index: int) -> bool:
        """Whether only ReLU reads the values of a node: those that nobody reads are asked for themselves."""
        readers = [self._graph.nodes[reader].layer for reader in self._graph.readers[index]]
        return bool(readers) and all(
            isinstance(layer, PiecewiseLinear) and layer.is_relu for layer in readers
        )

    def room(self, index: int, ranges: Range, room: int, used: int) -> int:
        """How many symbols forms may have behind a node with inputs in ranges; so many are used, of `room`.

        Where rows are asked for units, large layers have new ones only for a handful of units in doubt: with
        more all of a box takes a fifth longer, and gaps are a thousandth narrower.
        """
        node = self._graph.nodes[index]
        if not self._asks or math.prod(node.shape) <= _LARGE:
            return room
        assert isinstance(node.layer, PiecewiseLinear | MaxPool | Smooth), "the caller says so"
        torn = _torn(node.layer, *ranges).sum(dim=1)
        return room if bool((torn <= _HANDFUL).all()) else used

    def _ends_behind(self, source: int) -> bool:
        """Whether bands behind a node say what rows to it would: it has forms without symbols."""
        forms = self.backward.grounds.get(source)
        return forms is not None and not forms.symbols

    def multiplied(self, index: int, factors: tuple[Forms, ...], forms: Forms) -> None:
        """Take in products, entry by entry, of values that have forms; those of the products are these."""
        one, other = self._graph.nodes[index].inputs
        if not self._depth[one] and not self._depth[other]:  # what bends nothing forms know best
            self.ended(index, forms)
            return
        bands, ranges = (self._bands[one], self._bands[other]), (self._ranges[one], self._ranges[other])
        first, second = factors
        self.backward.lines[index] = ProductLines.of((first, second), bands, ranges)
        self.backward.last_bend.clear()
        if self._asks and len(forms.shape) == 3:
            # Gates that weigh channels see all of a map: rows for single places would take ten times as long,
            # and gain little where boxes are near to being decided.
            self._halts[index] = End.of(forms)
        # Bands of products say what forms do; rows say more.
        self._depth[index] = max(2, 1 + self._depth[one], 1 + self._depth[other])
        self._know(index, Band.of(forms), forms.bounds())

    def ended(self, index: int, forms: Forms) -> None:
        """Take in a node that no row is carried through: rows end in the forms of its values."""
        self._depth[index] = 0
        self._ground(index, forms)

    @property
    def _for_units(self) -> Backward:
        ends = self.backward.ends | self._halts
        return replace(self.backward, ends=ends) if self._halts else self.backward

    def _asked(self, source: int, asked: Tensor, width: Tensor) -> Band:
        """The band of a node, with what rows say of some of its entries; where these are wide in float32."""
        band = self._bands[source]
        if not self._may_narrow or self._entries(source, asked) <= _HEAVY * len(asked):
            return band.between(*self._for_units.units(source, asked))
        coarse = asked & (width > _COARSE * self.backward.scale(source))
        if coarse.any():
            band = band.between(*self._for_units.narrowed(source).units(source, coarse))
        fine = asked & ~coarse
        return band.between(*self._for_units.units(source, fine)) if fine.any() else band

    def _asked_of_both(self, source: int, asked: Tensor) -> Range | None:
        """What rows through other lines say of ranges ``(B, M)``, where few are asked for: as `_turned` does.

        Its band is then asked for, too: both go back together. None where that is not done.
        """
        few = self._differs.any() and self.backward.asks_few(torch.cat([asked, asked]))
        both = self._for_units.with_others(source) if few else None
        if both is None:
            return None
        below, above = both.units(source, torch.cat([asked, asked & self._differs[:, None]]))
        (below, turned_below), (above, turned_above) = below.chunk(2), above.chunk(2)
        self._bands[source] = self._bands[source].between(below, above)
        return least_of(turned_below), -least_of(-turned_above)

    def _turned(self, source: int, asked: Tensor, low: Tensor, high: Tensor) -> Range:
        """Ranges ``(B, M)`` with what rows through other lines say of entries, in boxes that ask for few.

        Only ranges take it in, so that no line turns by it: it makes no bound wider.
        """
        few = self._differs & (asked.sum(dim=1) <= self._allowed * asked.shape[1])
        if self._entries(source, asked) < _FEW:
            few = self._differs
        some = asked & few[:, None]
        if not some.any():
            return low, high
        below, above = self._for_units.otherwise().units(source, some)
        least, most = torch.fmax(low, least_of(below)), torch.fmin(high, -least_of(-above))
        left, whole = (torch.where(some, own, 0.0).sum(dim=1) for own in (most - least, high - low))
        tried = some.any(dim=1)
        self._allowed[tried] = (left <= _GAIN * whole)[tried].to(self._allowed.dtype)
        return least, most

    def _entries(self, source: int, asked: Tensor) -> int:
        """How many entries rows for what is asked of a node have, where they are widest."""
        behind = self._for_units.behind(source)
        return int(asked.sum()) * max(math.prod(self._graph.nodes[index].shape) for index in behind)

    def _ground(self, index: int, forms: Forms) -> None:
        self.backward.grounds[index] = forms
        # What bands and forms say of values is the same here.
        self._know(index, Band.of(forms), forms.bounds())

    def _add(self, index: int, forms: Forms, band: Band, known: Range) -> None:
        self._meet(index, band, known, forms.bounds())

    def _meet(self, index: int, band: Band, *known: Range) -> None:
        """Take in a node whose values are in its band, and in both ranges."""
        ends = [own.flatten(1) for ends in (*known, band.bounds) for own in ends]
        made = torch.from_numpy(in_all(*numbers_of(ends))).to(band.error.device)
        low, high, size = made.reshape(3, *band.error.shape)
        self._bands[index], self._ranges[index], self.backward.sizes[index] = band, (low, high), size

    def _know(self, index: int, band: Band, known: Range) -> None:
        self._bands[index], self._ranges[index] = band, known
        self.backward.sizes[index] = size_of(*known)


def _is_affine(forms: Forms) -> bool:
    return bool((_off(forms) <= _AFFINE).all())


def _off(forms: Forms) -> Tensor:
    """``(B,)`` what share of how far values reach is owed to else than coordinates."""
    strays, reach = (own.flatten(1).sum(dim=1) for own in (forms.strays, forms.reach))
    return strays / reach.clamp_min(torch.finfo(reach.dtype).tiny)


def _torn(layer: PiecewiseLinear | MaxPool | Smooth, low: Tensor, high: Tensor) -> Tensor:
    """The inputs ``(B, N)`` whose ranges matter to what is known of the output."""
    if isinstance(layer, Smooth):
        return high > low
    if isinstance(layer, PiecewiseLinear):
        return layer.pieces_of(high) != layer.pieces_of(low)
    real, place = layer.windows >= 0, layer.windows.clamp_min(0)
    best = low[:, place].masked_fill(~real, -torch.inf).amax(dim=2)
    near = real & (high[:, place] > best[..., None])
    near &= (near.sum(dim=2) > 1)[..., None]
    torn = torch.zeros(low.shape, dtype=torch.int8, device=low.device)
    torn.scatter_reduce_(1, place.flatten().expand(len(low), -1), near.flatten(1).to(torch.int8), "amax")
    return torn > 0


def _is_precise() -> bool:
    """Whether PyTorch adds up products of float32 in that precision: on a GPU or in autocast it may not."""
    try:
        return torch.get_float32_matmul_precision() == "highest" and not torch.is_autocast_enabled("cpu")
    except RuntimeError:  # it was set by the newer names, which the old one does not tell
        return False
