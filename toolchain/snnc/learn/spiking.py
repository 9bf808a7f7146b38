"""From a ReLU network to a spiking one: every ReLU becomes a layer of neurons.

The weights are copied as they are; nothing is normalised. The copy is not yet a good
classifier: `balance` sets its thresholds, `adapt` its batch statistics, `finetune` the
rest (Schmolli et al., CPAL 2025, section 3.2).
"""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.fx.passes.shape_prop import ShapeProp

from snnc.errors import InvalidSetting, Issue, Unsupported, unreachable
from snnc.frontend.tracing import evaluating, trace
from snnc.ir.graph import Granularity, Reset
from snnc.learn.neurons import Fire, expand
from snnc.learn.overtime import run_over_time
from snnc.learn.surrogates import Surrogate
from snnc.learn.views import eval_view

RELU_FUNCTIONS = frozenset({F.relu, F.relu_, torch.relu, torch.relu_})
RELU_METHODS = frozenset({"relu", "relu_"})


class SpikingNetwork(nn.Module):
    """A traced network whose nonlinearities are `Fire`, run for `steps` steps.

    Input is direct coding: the image is the input of every step. The logits are the mean
    over the steps of what the body returns: the potential of a never-reset, non-leaky
    readout if it ends in a linear layer, mean spike counts if it ends in spikes.
    """

    body: fx.GraphModule

    def __init__(self, body: fx.GraphModule, *, steps: int, input_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.body = body
        self.steps = steps
        self.input_shape = input_shape

    @property
    def fires(self) -> dict[str, Fire]:
        """The spiking layers by name, in execution order."""
        called = {
            str(node.target): self.body.get_submodule(str(node.target))
            for node in self.body.graph.nodes
            if node.op == "call_module"
        }
        return {name: module for name, module in called.items() if isinstance(module, Fire)}

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (N, classes) for images (N, *input_shape) in [0, 1]."""
        if images.dim() == 4 and images.device.type == "cpu":
            images = images.contiguous(memory_format=torch.channels_last)
        logits = expand(run_over_time(self.body, images, self.steps), self.steps)
        return logits.mean(0, dtype=torch.promote_types(logits.dtype, torch.float32))


def to_spiking(
    ann: nn.Module,
    *,
    input_shape: tuple[int, ...],
    steps: int,
    reset: Reset,
    keep: float,
    granularity: Granularity,
    surrogate: Surrogate,
) -> SpikingNetwork:
    """Return a spiking copy of a ReLU network, every threshold 1; the original is untouched.

    Weights, batch norm statistics and modes are copied. Each call of a ReLU, whether as a
    module, a function or a method, becomes one `Fire`. It keeps the module's name; a second
    call of one module is `name_1`, and a function takes the name that tracing gives it.

    Raises:
        Unsupported: the network has no ReLU, or anything else that no graph can hold; all of
            it is listed.
        InvalidSetting: `steps` or `keep` is outside what `Fire` takes.
    """
    if steps < 1:
        raise InvalidSetting(f"steps is {steps}; a spiking network needs at least 1")
    from snnc.frontend.torch_module import from_torch  # which imports this module

    from_torch(ann, input_shape=input_shape)  # refuse now what could not be compiled later
    body = trace(copy.deepcopy(ann))
    calls = [node for node in body.graph.nodes if _is_relu(node, body)]
    if not calls:
        raise Unsupported(
            type(ann).__name__,
            [
                Issue(
                    type(ann).__name__,
                    "has no ReLU that could become a spiking layer",
                    "use nn.ReLU between the layers",
                    "no-relu",
                )
            ],
        )
    like = next(body.parameters(), torch.zeros(()))
    shapes = _shapes(body, torch.zeros(1, *input_shape, dtype=like.dtype, device=like.device))
    for node in calls:
        fire = Fire(
            threshold=like.new_ones(_threshold_shape(granularity, shapes[node])),
            granularity=granularity,
            reset=reset,
            keep=keep,
            steps=steps,
            surrogate=surrogate,
        )
        _replace(body, node, fire.train(ann.training))
    body.recompile()
    return SpikingNetwork(body, steps=steps, input_shape=input_shape)


def view(network: SpikingNetwork, *, surrogate: Surrogate) -> SpikingNetwork:
    """Return a copy in eval mode that shares all tensors and has its own surrogate.

    What is done to the view, other than writing into its tensors, never shows in `network`.
    """
    copied = eval_view(network)
    for fire in copied.fires.values():
        fire.surrogate = surrogate
    return copied


def spiking_copy(network: nn.Module, stage: str) -> SpikingNetwork:
    """Return a deep copy of a spiking network, for a stage that needs one.

    Raises InvalidSetting if the network does not spike.
    """
    if not isinstance(network, SpikingNetwork):
        raise InvalidSetting(
            f"{stage} needs a spiking network and got {type(network).__name__}; convert it first"
        )
    return copy.deepcopy(network)


def mean_thresholds(network: SpikingNetwork) -> dict[str, float]:
    """Return each layer's mean threshold as a metric, `threshold.` and the layer's name."""
    return {f"threshold.{n}": float(f.threshold.detach().mean()) for n, f in network.fires.items()}


def _is_relu(node: fx.Node, body: fx.GraphModule) -> bool:
    match node.op:
        case "call_module":
            return type(body.get_submodule(str(node.target))) is nn.ReLU
        case "call_function":
            return node.target in RELU_FUNCTIONS
        case "call_method":
            return node.target in RELU_METHODS
        case _:
            return False


def _shapes(body: fx.GraphModule, image: Tensor) -> dict[fx.Node, tuple[int, ...]]:
    """Return the shape of each node's value for one image, without the batch."""
    with evaluating(body), torch.no_grad():
        ShapeProp(body).propagate(image)
    return {
        node: tuple(node.meta["tensor_meta"].shape[1:])
        for node in body.graph.nodes
        if "tensor_meta" in node.meta
    }


def _threshold_shape(granularity: Granularity, shape: tuple[int, ...]) -> tuple[int, ...]:
    match granularity:
        case Granularity.LAYER:
            return ()
        case Granularity.CHANNEL:
            return shape[:1]
        case Granularity.NEURON:
            return shape
        case _:
            unreachable(granularity)


def _replace(body: fx.GraphModule, node: fx.Node, fire: Fire) -> None:
    """Put `fire` where `node` calls a ReLU, under a name that no other layer has."""
    wanted = str(node.target) if node.op == "call_module" else node.name
    name, taken = wanted, {path for path, _ in body.named_modules()}
    if node.op == "call_module" and type(body.get_submodule(wanted)) is nn.ReLU:
        taken.discard(wanted)  # the first call of a ReLU inherits its place
    count = 0
    while name in taken:
        count += 1
        name = f"{wanted}_{count}"
    body.add_submodule(name, fire)
    with body.graph.inserting_after(node):
        call = body.graph.call_module(name, (node.args[0] if node.args else node.kwargs["input"],))
    node.replace_all_uses_with(call)
    body.graph.erase_node(node)
