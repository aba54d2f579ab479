"""The compiled module, csrc/module.cpp: it checks every argument again and drops the GIL.

Float arrays of one call (in `adam` of one update) share one dtype, float32 or float64, and are
C-contiguous, but for y and dy, whose rows may lie apart. x is (T, N, I), or int64 (T, N) for
tokens. After `accept_tensors` tensors may come in place of arrays in `forward` and `backward`;
their leading axes of size 1 do not count, and x of one step may be (N, I) or (I,).
"""

from typing import Any, TypeAlias

from .weights import Array, State

Arrays: TypeAlias = tuple[Array | None, ...]
"""The fields of `Weights`, all of them."""

Noise: TypeAlias = tuple[int, float, float, float, bool, int, int, Array | None, Array | None]
"""Of one layer and direction, as `noise.CellNoise.core` returns it."""

__version__: str
compiler: str
cuda_build: str
"""How the module _cuda was built, or why it was not."""

class Tape:
    """What `forward` records for `backward`."""

    def __init__(self) -> None: ...
    @property
    def nbytes(self) -> int: ...

def buffer(bytes: int) -> Array:
    """Return memory for a tape, uint8 (bytes,), not initialised: from a pool, and back to it."""

def accept_tensors(type: type, parameter: type) -> None: ...
def plain_shapes(tensors: tuple[Any, ...]) -> tuple[tuple[int, ...], ...] | None: ...
def forward(
    cell: str,
    x: Any,
    weights: Any,
    state: Any | None,
    reverse: bool,
    y: Any | None,
    state_n: Any,
    tape: Tape | Any | None,
    first_row: Array | None = None,
    resets: Array | None = None,
    noise: Noise | None = None,
    threads: int = 0,
) -> Any:
    """Return the memory of the tape: as it was given, or new if that was True, or None."""

def backward(
    tape: Tape | Any,
    x: Any,
    y: Any | None,
    weights: Any,
    dy: Any | None,
    dstate_n: Any | None,
    dx: Any | None,
    dx_add: bool,
    dweights: Any | None,
    add: bool,
    dstate_0: Any | None,
    threads: int = 0,
) -> None: ...
def one_step(tape: Tape, y: Array) -> Tape: ...
def tape_nbytes(
    cell: str,
    is_double: bool,
    T: int,
    N: int,
    H: int,
    P: int,
    rows: int,
    drops: bool = False,
    zones: bool = False,
) -> int: ...

class Packed:
    """Weights in the order in which the kernels read them, from `pack`."""

    @property
    def is_double(self) -> bool: ...
    @property
    def state_widths(self) -> tuple[int, ...]:
        """As `weights.state_widths`."""
    @property
    def nbytes(self) -> int: ...

def pack(
    cell: str, weights: Arrays, rows: int, zoneout_h: float = 0.0, zoneout_c: float = 0.0
) -> Packed: ...
def longest_first(lengths: Array, T: int) -> tuple[Array, Array]: ...
def pack_rows(padded: Array, order: Array, first_row: Array, packed: Array) -> None: ...
def unpack_rows(
    packed: Array, order: Array, first_row: Array, padded: Array, zeros: bool
) -> None: ...
def dropout(
    x: Array,
    out: Array,
    p: float,
    seed: int,
    first_step: int,
    first_row: int,
    rows: Array | None = ...,
    steps: Array | None = ...,
) -> None: ...
def infer(
    packed: Packed,
    x: Array,
    state: State | None,
    reverse: bool,
    y: Array,
    state_n: State,
    first_row: Array | None = None,
    resets: Array | None = None,
) -> None: ...
def step(stack: tuple[Packed, ...], x: Array, state: State, out: State) -> None: ...
def linear_forward(x: Array, weight: Array, bias: Array | None, y: Array) -> None: ...
def linear_backward(
    x: Array,
    weight: Array,
    dy: Array,
    dx: Array,
    dweight: Array,
    dbias: Array | None,
    add: bool,
) -> None: ...
def softmax_cross_entropy(
    logits: Array, targets: Array, ignore_index: int, mean: bool, dlogits: Array
) -> float: ...
def adam(
    updates: list[tuple[Array, ...]],
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    weight_decay: float,
    decoupled: bool,
    step: int,
) -> None: ...
def activation(name: str, x: Array, out: Array) -> None: ...
def isas() -> list[str]: ...
def isa() -> str: ...
def set_isa(name: str) -> None: ...
def num_threads() -> int: ...
def threads_at_work() -> int: ...
def meeting_time() -> int: ...
def threads_of_units(most: int, step: float, meeting: int) -> int: ...
def threads_of_rows(
    most: int, of_units: int, T: int, N: int, I: int, H: int, gates: int, width: int, meeting: int
) -> int: ...
def set_num_threads(n: int, beyond_processors: bool = False) -> None: ...
