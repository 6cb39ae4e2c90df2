"""One output of a model: what it declares, and what it was in the warm-up."""

from collections.abc import Sequence
from dataclasses import dataclass

from gateway.backends.signature import Signature
from gateway.protocol.tensors import ObservedOutput, TensorSpec


@dataclass(frozen=True, slots=True)
class OutputPlace:
    """An output and its position among them. `seen`: what it was in the warm-up; None if that is not known.

    `width`: the numbers of a row, if that is constant.
    """

    position: int
    spec: TensorSpec
    seen: ObservedOutput | None
    width: int | None

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape that is declared, else the one of the warm-up; () if neither is known, or for a scalar."""
        return self.spec.shape or (self.seen.shape if self.seen else ())

    @property
    def shape_known(self) -> bool:
        """Whether the shape can be relied on."""
        return bool(self.spec.shape) or self.seen is not None

    @property
    def described(self) -> str:
        """Name, datatype and shape, for a message."""
        return f"output '{self.spec.name}', {self.spec.datatype} {list(self.shape)},"


def output_place(signature: Signature, shown: Sequence[ObservedOutput | None], name: str) -> OutputPlace | None:
    """Find an output by its name; None if there is none. `shown`: seen in the warm-up, in the outputs' order."""
    names = [spec.name for spec in signature.outputs]
    if name not in names:
        return None
    position = names.index(name)
    seen = shown[position] if position < len(shown) else None
    return OutputPlace(position, signature.outputs[position], seen, _width(signature, position, seen))


def shape_unknown(spec: TensorSpec) -> str:
    """The reason why nothing is read from an output whose shape is not known."""
    return f"the shape of output '{spec.name}' is not known: put a V2 request that runs in warmup.json"


def _width(signature: Signature, position: int, seen: ObservedOutput | None) -> int | None:
    """The numbers of a row: declared, or seen if the inputs can have one size only."""
    shape = signature.outputs[position].shape
    if len(shape) == 2 and shape[1] >= 0:
        return shape[1]
    of_one_size = all(-1 not in given.shape[1:] for given in signature.inputs)
    return seen.shape[1] if seen is not None and len(seen.shape) == 2 and of_one_size else None
