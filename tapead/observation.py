"""What flows through a tape: the value, the tangents, the partial adjoints and their sum, node by node.

The function is recorded once; its tangents and adjoints are then written on the same tape by the rules that every
derivative is made of, and what each step adds is noted on the way.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .adjoint import Adjoints, Seed
from .calling import call, check_callable, name_of
from .errors import TapeadTypeError, TapeadValueError
from .nested import check_differentiable
from .nodes import GUARD, JOIN, VIEW, WRITE, Node, Nodes
from .record import Recording, find_tensor
from .tangent import Tangents
from .tape import CONSTANT, INPUT, WRITES
from .tensor import Tensor
from .tree import flatten, is_traced, normal, paths, unflatten
from .walk import strided


@dataclass(frozen=True)
class Part:
    """A partial adjoint: what a consumer adds to the adjoint of a node, by one of its instruction's operands.

    A view and an assignment have no instruction, or no rule, for what they pass on: it is (a part of) their own adjoint.
    """

    source: int
    consumer: int
    value: Any
    instruction: int = -1
    operand: int = -1


@dataclass
class Observation:
    """All that flowed in one run; node -> what it holds. A node that is missing has no tangent, or no adjoint: zero."""

    name: str
    nodes: Nodes
    inputs: list[int] = field(default_factory=list)  # the nodes that are differentiated by
    outputs: list[int] = field(default_factory=list)
    values: dict[int, Any] = field(default_factory=dict)
    tangents: dict[int, dict[int, Any]] = field(default_factory=dict)  # input -> node -> tangent
    adjoints: dict[int, Any] = field(default_factory=dict)
    parts: list[Part] = field(default_factory=list)


def observe(
    function: Callable[..., Any],
    args: Sequence[Any],
    names: Sequence[str],
    wrt: Sequence[str] | None,
    forward: bool,
    reverse: bool,
) -> Observation:
    """Run a function on some values, and note all that flows.

    names are those of the arguments; wrt names the ones to differentiate by (None: all that can be). The seed of a tangent
    is 1 for every element of its input, that of the adjoints 1 for every element of the results.
    """
    check_callable(function)
    recording = Recording(replays=True)  # numbers that leave the tape would take their derivatives with them
    leaves, structure = flatten(tuple(args))
    paths_of = [path for arg in args for path in paths(arg)]
    owners = [name for name, arg in zip(names, args, strict=True) for _ in flatten(arg)[0]]
    labels = [owner + path for owner, path in zip(owners, paths_of, strict=True)]
    unknown = sorted(set(wrt or ()) - set(names))
    if unknown:
        raise TapeadValueError(f"there is no argument {unknown[0]!r} to differentiate by; there are {', '.join(names)}")
    with recording, np.errstate(all="ignore"):
        level = recording.open_level()
        inside, entered, variables, varied = list(map(normal, leaves)), {}, [], set()
        for i, leaf in enumerate(inside):
            if not is_traced(leaf):
                continue
            floating = np.asarray(leaf).dtype.kind == "f"
            if wrt is not None and owners[i] in wrt:
                check_differentiable(leaf, labels[i])
            chosen = floating if wrt is None else owners[i] in wrt
            inside[i] = tensor = recording.enter(leaf, levels=level if chosen else 0)
            tensor.storage.data = np.asarray(tensor._value)
            recording.keep(tensor)
            entered[recording.storage_of[tensor.buffer]] = labels[i]
            if chosen:
                variables.append(tensor)
                varied.add(owners[i])
        for leaf, owner, label in zip(leaves, owners, labels, strict=True):
            if owner not in varied and owner in (wrt or ()):
                check_differentiable(leaf, label)
        if not variables:
            raise TapeadTypeError("there is no float among the arguments to differentiate by")
        outputs = _outputs(recording, call(function, unflatten(structure, inside), {}), name_of(function))
        nodes = Nodes(recording, entered, _kept_only(recording))
        seen = Observation(name_of(function), nodes)
        seen.inputs = [nodes.node_of(v.buffer) for v in variables]
        seen.outputs = [nodes.node_of(x.buffer) for x in outputs]
        _Noted(seen, recording, outputs, variables, reverse).run()
        if forward:
            for node, variable in zip(seen.inputs, variables, strict=True):
                seen.tangents[node] = _tangents(nodes, recording, variable)
    return seen


def _kept_only(recording: Recording) -> set[int]:
    """Find the instructions that keep what an assignment overwrites, where nothing but its way back reads that."""
    read = {recording.storage_of[b] for operands in recording.operand_buffers for b in operands}
    kept = {t.buffer for t in recording.former.values() if recording.storage_of[t.buffer] not in read}
    return {k for k, made in enumerate(recording.result_buffers) if kept.intersection(made)}


def _outputs(recording: Recording, result: Any, name: str) -> list[Tensor]:
    leaves = flatten(result)[0]
    found = [recording.tensor(leaf) for leaf in leaves if type(leaf) is Tensor or find_tensor(leaf) is not None]
    found = [tensor for tensor in found if tensor.dtype.kind == "f"]
    if not found:
        raise TapeadTypeError(f"{name} returned nothing that depends on its arguments and has a derivative")
    return found


class _Noted(Adjoints):
    """A reverse sweep that notes what it meets: values as they were, adjoints when they are complete, their parts."""

    def __init__(
        self,
        seen: Observation,
        recording: Recording,
        outputs: Sequence[Tensor],
        variables: Sequence[Tensor],
        reverse: bool,
    ) -> None:
        self.seen, self.nodes, self.seeded, self._at = seen, seen.nodes, reverse, -1
        seeds: list[Seed] = []
        if reverse:
            seeds = [(x, recording.tensor(np.ones(x.shape, x.dtype))) for x in outputs]
        super().__init__(recording, 0, seeds, variables, len(seen.nodes.operands))
        self._used: set[int] = set()  # operands of the instruction at hand whose parts are noted

    def run(self) -> None:
        super().run()
        nodes, seen = self.nodes, self.seen
        for node in nodes.all:
            if node.kind in (INPUT, CONSTANT):
                seen.values[node.index] = self._whole(node.storage).reshape(node.shape)[()]
            if node.kind == INPUT:
                self._note_adjoint(node.index)
        for node in nodes.all:  # a view comes behind what it is a view of
            if node.kind == VIEW:
                seen.values[node.index] = _stretch(nodes, node.index, seen.values[node.operands[0]])
        flowing_to: dict[int, list[Any]] = {}
        for n in seen.outputs if self.seeded else ():
            flowing_to.setdefault(n, []).append(np.ones(nodes[n].shape, nodes[n].dtype))
        for part in seen.parts:
            flowing_to.setdefault(part.source, []).append(part.value)
        for node in reversed(nodes.all):
            if node.kind == VIEW:
                flowing = flowing_to.get(node.index)
                if flowing:
                    seen.adjoints[node.index] = total = sum(flowing[1:], flowing[0])
                    seen.parts.append(Part(node.operands[0], node.index, total))
            elif node.kind == WRITE and node.index in seen.adjoints:
                self._pass_on(node.index)

    def _whole(self, s: int) -> Any:
        """Give all that a storage holds at this point of the way back."""
        held = self.values[s]._value if s in self.values else self.recording.storages[s].data
        return np.array(held).reshape(-1)

    def _reverse(self, k: int) -> None:
        self._at, self._used = k, set()
        for node in _complete(self.nodes, k):
            s = node.storage
            if node.kind in (JOIN, WRITE) or s in self.values:
                value = self._whole(s)
            else:
                value = np.array(self.value(node.buffer)._value)
            self.seen.values[node.index] = value.reshape(node.shape)[()]
            self._note_adjoint(node.index)
        super()._reverse(k)
        self._at = -1

    def _note_adjoint(self, node: int) -> None:
        s, shape = self.nodes[node].storage, self.nodes[node].shape
        held = self.flat.get(s, self.whole.get(s))
        if held is not None and s not in self._zero:
            self.seen.adjoints[node] = np.array(held._value).reshape(shape)[()]

    def _add(self, buffer: int, contribution: Tensor) -> None:
        k = self._at
        if k >= 0:
            shape = self.recording.buffers[buffer].shape
            contribution = self._summed(contribution, shape)
            operands = self.recording.operand_buffers[k]
            place = next(i for i, b in enumerate(operands) if b == buffer and i not in self._used)
            self._used.add(place)
            source = self.nodes.operands[k][place]
            value = np.array(contribution._value).reshape(self.nodes[source].shape)[()]
            write = self.recording.ops[k].name in WRITES
            self.seen.parts.append(Part(source, self.nodes.made[k][0], value, -1 if write else k, place))
        super()._add(buffer, contribution)

    def _pass_on(self, node: int) -> None:
        """Note what an assignment leaves to the array before it: its adjoint, but where it was written."""
        seen, written = self.seen, self.nodes[node]
        k = written.instructions[0]
        left = np.array(seen.adjoints[node]).reshape(-1)
        b = self.recording.buffers[self.recording.result_buffers[k][0]]
        target = strided(left, b.shape, b.strides, b.offset)
        indices = [np.asarray(self.recording.tensor_of(i)._value) for i in self.recording.operand_buffers[k][1:]]
        if indices:
            axes = (self.recording.parameters[k] or {})["axes"]
            target[tuple(indices[axes.index(a)] if a in axes else slice(None) for a in range(target.ndim))] = 0
        else:
            target[...] = 0
        if left.any():
            seen.parts.append(Part(written.operands[0], node, left.reshape(written.shape)[()]))


def _complete(nodes: Nodes, k: int) -> list[Node]:
    """Give the nodes that hold all of their value once an instruction has run."""
    made = [nodes[n] for n in nodes.made[k]]
    return [node for node in made if node.kind != GUARD and node.instructions[-1] == k]


def _stretch(nodes: Nodes, view: int, base: Any) -> Any:
    """Take a view's elements out of what its base holds."""
    b = nodes.tape.buffers[nodes[view].buffer]
    flat = np.ascontiguousarray(base).reshape(-1)
    return np.array(strided(flat, b.shape, b.strides, b.offset)).reshape(nodes[view].shape)[()]


def _tangents(nodes: Nodes, recording: Recording, variable: Tensor) -> dict[int, Any]:
    """Push the tangent of one input through the function, and note it at every node."""
    seed = recording.tensor(np.ones(variable.shape, variable.dtype))
    sweep = Tangents(recording, 0, [variable], [seed], len(nodes.operands))
    noted: dict[int, Any] = {nodes.node_of(variable.buffer): np.ones(variable.shape, variable.dtype)[()]}
    for k in range(sweep.stop):
        sweep.step(k)
        for node in _complete(nodes, k):
            held = sweep.flat.get(node.storage, sweep.whole.get(node.storage))
            if held is not None:
                noted[node.index] = np.array(held._value).reshape(node.shape)[()]
    for node in nodes.all:
        if node.kind == VIEW and node.operands[0] in noted:
            noted[node.index] = _stretch(nodes, node.index, noted[node.operands[0]])
    return noted
