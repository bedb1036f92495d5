"""Facet sets and vertex names as 64-bit integers: the small change of the kernels."""

from __future__ import annotations

from typing import Any

import numba as nb
import numpy as np

from steadygaze.geometry.caching import compiler

U = np.uint64

#: Compiles a function that Python calls: kept on disk, run without the interpreter's lock.
kernel = compiler(nogil=True, error_model="numpy")
#: The same where sums may be added up in any order, which lets them be taken several terms at once.
summing_kernel = compiler(nogil=True, error_model="numpy", fastmath={"reassoc"})
#: Compiles a function that only kernels call, without the wrapper for Python, which saves a tenth of the
#: compiler's time. Calling one from Python crashes the interpreter. Its code stands where it is called:
#: handing over a tuple of arrays takes longer than what most of these do, and a cut a third longer with them.
part = compiler(
    nogil=True, error_model="numpy", forceinline=True, no_cpython_wrapper=True, no_cfunc_wrapper=True
)

#: Puts a function's text into its one caller, which then is compiled once and not twice.
spliced = nb.njit(inline="always", error_model="numpy")


def _scattered(x: Any) -> Any:
    """Finaliser of splitmix64 (Steele et al., OOPSLA 2014): a bijection that scatters close integers."""
    x = (x ^ (x >> U(30))) * U(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> U(27))) * U(0x94D049BB133111EB)
    return x ^ (x >> U(31))


#: `_scattered` of one name, for kernels.
mix = kernel(_scattered)


def mixed(names: np.ndarray) -> np.ndarray:
    """`mix` of each of the names, uint64 of any shape."""
    return _scattered(names)


@kernel
def popcount(x: np.uint64) -> np.int64:
    """Number of ones, by the usual tree of partial sums."""
    x = x - ((x >> U(1)) & U(0x5555555555555555))
    x = (x & U(0x3333333333333333)) + ((x >> U(2)) & U(0x3333333333333333))
    x = (x + (x >> U(4))) & U(0x0F0F0F0F0F0F0F0F)
    return np.int64((x * U(0x0101010101010101)) >> U(56))


@kernel
def vertex_name(a: np.uint64, b: np.uint64, hinge: np.uint64) -> np.uint64:
    """Name of the vertex that `hinge` makes on the edge between the vertices named `a` and `b`.

    It depends on nothing but those three, so that neighbouring cells, other chunks and other threads
    give the same vertex the same name. Two different vertices share a name with probability 2**-64.
    """
    low, high = (a, b) if a < b else (b, a)
    return mix(mix(mix(low) + U(0x9E3779B97F4A7C15)) ^ high) ^ mix(hinge)


@kernel
def find_slot(table: np.ndarray, names: np.ndarray, name: np.uint64) -> np.int64:
    """Slot of `name` in an open-addressing table of vertex numbers (-1 = empty)."""
    size = U(table.shape[0] - 1)
    slot = mix(name) & size
    while table[slot] >= 0 and names[table[slot]] != name:
        slot = (slot + U(1)) & size
    return np.int64(slot)


@kernel
def fill_table(names: np.ndarray, count: int, capacity: int) -> np.ndarray:
    """Table that finds the first `count` names; at least `capacity` of them fit before it is half full."""
    size = 64
    while size < 2 * capacity:
        size *= 2
    table = np.empty(size, np.int64)
    for slot in range(size):  # a loop: np.full takes the compiler a quarter of a second
        table[slot] = -1
    for v in range(count):
        table[find_slot(table, names, names[v])] = v
    return table
