"""Read the spiking VGG-11 that the authors of TMLR 2024 trained, from their state dict.

Two lines make a checkpoint of a file that their `main_train.py` wrote, to compile, simulate
and attack like any other:

    checkpoint = from_published(
        torchfile.read(Path("RFGSM.pth")), steps=8, reset=Reset.ZERO, **NORMALISATION["cifar10"]
    )
    save_checkpoint(Path("model.pt"), checkpoint, force=False)

with `torchfile` of `snnc.frontend`, `save_checkpoint` of `snnc.frontend.checkpoint` and
`Reset` of `snnc.ir.graph`; `to_module(checkpoint)` is the network itself.

    released                                     here
    features.0, .4, .7, .11, ...   Conv2d        conv1 ... conv8
    features.1, .5, .8, .12, ...   BatchNorm2d   norm1 ... norm8
    features.2.v_th, ...           LIFSpike      relu1.threshold ... relu8.threshold
    classifier.1, .4               Linear        linear9, linear10
    classifier.2.v_th, .5.v_th     LIFSpike      relu9.threshold, relu10.threshold
    classifier.7                   Linear        readout

Names and meaning are those of `models/VGG.py` and `models/layers.py` in the repository
IGITUGraz/RobustSNNConversion: leak 1, one threshold for each layer, spikes where v >= v_th,
logits the mean over the steps.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import isqrt
from typing import TypedDict

import torch
from snnc.errors import Issue, Refusal
from snnc.frontend.checkpoint import Checkpoint
from snnc.frontend.header import SpikingSettings
from snnc.ir.graph import Granularity, Reset
from snnc.learn.surrogates import TRIANGLE
from torch import Tensor, nn

from snnc_models.vgg import POOL, VGG11, vgg11

RELEASED = "vgg11_bn of IGITUGraz/RobustSNNConversion"
HEAD = f"cannot read this as the spiking {RELEASED}"
BATCH_NORM = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
FIRST, HIDDEN, LAST = "features.0.weight", "classifier.1.weight", "classifier.7.weight"


class Normalisation(TypedDict):
    """What the released code subtracts from each channel and divides it by."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]


# The files do not hold them. Source: data_loaders.py of IGITUGraz/RobustSNNConversion.
NORMALISATION: Mapping[str, Normalisation] = {
    "cifar10": {"mean": (0.4914, 0.4822, 0.4465), "std": (0.2023, 0.1994, 0.2010)},
    "cifar100": {"mean": (0.5071, 0.4867, 0.4408), "std": (0.2675, 0.2565, 0.2761)},
    "svhn": {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)},
}


def from_published(
    state: object,
    *,
    steps: int,
    reset: Reset,
    mean: Sequence[float],
    std: Sequence[float],
    class_names: Sequence[str] = (),
) -> Checkpoint:
    """Return the checkpoint of a spiking VGG-11 whose state dict has the released names.

    Widths, image size, number of classes and whether layers have a bias are read from the
    shapes. `steps`, `reset`, `mean` and `std` are not in the file: the released scripts use
    8 steps, reset to zero, and `NORMALISATION`.

    A threshold below 0.03 runs as 0.03, as in the released code when it learns thresholds
    (`--learn_vth`, which its scripts for spiking networks set).

    Raises:
        Refusal: names are missing or unknown, or tensors have another shape or type or hold
            NaN; every one is listed. A network that was not converted has no thresholds.
    """
    tensors = _tensors(state)
    bias = bool((_names(bias=True).keys() - _names(bias=False).keys()) & tensors.keys())
    names = _names(bias=bias)
    _refuse(_name_issues(tensors, names))
    sizes = _sizes(tensors, bias)
    _refuse(_tensor_issues(tensors, names, _network(sizes, mean, std)))
    return Checkpoint(
        kind="snn",
        architecture="vgg11",
        arguments={**asdict(sizes), "mean": list(mean), "std": list(std)},
        input_shape=(len(mean), sizes.size, sizes.size),
        class_names=tuple(class_names),
        spiking=SpikingSettings(
            steps=steps,
            reset=reset,
            keep=1.0,
            granularity=Granularity.LAYER,
            surrogate=TRIANGLE,
        ),
        provenance={"source": RELEASED},
        state={
            **{f"body.{ours}": tensors[theirs] for theirs, ours in names.items()},
            "body.normalize.mean": torch.tensor(mean).reshape(-1, 1, 1),
            "body.normalize.std": torch.tensor(std).reshape(-1, 1, 1),
        },
    )


@dataclass(frozen=True, kw_only=True)
class _Sizes:
    """The arguments of `vgg11` that a state dict tells."""

    classes: int
    size: int
    width: int
    hidden: int
    bias: bool


def _modules() -> Iterator[tuple[str, str]]:
    """Yield the name of each released module that holds tensors, and ours."""
    place = number = 0
    for multiple in VGG11:
        if multiple == POOL:
            place += 1
            continue
        number += 1
        for kind in ("conv", "norm", "relu"):
            yield f"features.{place}", f"{kind}{number}"
            place += 1
    for place in (1, 4):  # behind a Flatten; behind a linear layer, its neurons and a Dropout
        number += 1
        yield f"classifier.{place}", f"linear{number}"
        yield f"classifier.{place + 1}", f"relu{number}"
    yield "classifier.7", "readout"


def _names(*, bias: bool) -> dict[str, str]:
    """Map the name of each released tensor to ours, with or without biases of layers."""
    found = {}
    for theirs, ours in _modules():
        if ours.startswith("relu"):
            found[f"{theirs}.v_th"] = f"{ours}.threshold"
            continue
        weights = ("weight", "bias") if bias else ("weight",)
        for part in BATCH_NORM if ours.startswith("norm") else weights:
            found[f"{theirs}.{part}"] = f"{ours}.{part}"
    return found


def _tensors(state: object) -> dict[str, Tensor]:
    """Return the tensors of a state dict on the CPU, as plain tensors."""
    if isinstance(state, Mapping) and all(isinstance(value, Tensor) for value in state.values()):
        return {str(name): value.detach().cpu().contiguous() for name, value in state.items()}
    raise Refusal(
        HEAD,
        [
            Issue(
                "state dict",
                f"is a {type(state).__name__}, not tensors by name",
                "pass what main_train.py saved: network.state_dict()",
                "state-dict",
            )
        ],
    )


def _refuse(issues: Iterator[Issue]) -> None:
    if found := list(issues):
        raise Refusal(HEAD, found)


def _name_issues(tensors: Mapping[str, Tensor], names: Mapping[str, str]) -> Iterator[Issue]:
    for name in names:
        if name not in tensors:
            remedy = "pass the file of a converted network" if "v_th" in name else "save it again"
            yield Issue(name, "is missing", remedy, "missing")
    for name in tensors:
        if name not in names:
            yield Issue(name, "is no tensor of this network", "pass a VGG-11", "unknown")
    for name, dimensions in ((FIRST, 4), (HIDDEN, 2), (LAST, 2)):
        if name in tensors and tensors[name].dim() != dimensions:
            shape = tuple(tensors[name].shape)
            problem = f"has shape {shape} instead of {dimensions} dimensions"
            yield Issue(name, problem, "save it again", "shape")


def _sizes(tensors: Mapping[str, Tensor], bias: bool) -> _Sizes:
    """Read the sizes from the first convolution and two of the linear layers."""
    width = tensors[FIRST].shape[0]
    hidden, inputs = tensors[HIDDEN].shape
    side = isqrt(inputs // max(VGG11[-1] * width, 1))  # of the maps behind the last pooling
    return _Sizes(
        classes=tensors[LAST].shape[0],
        size=side << VGG11.count(POOL),
        width=width,
        hidden=hidden,
        bias=bias,
    )


def _network(sizes: _Sizes, mean: Sequence[float], std: Sequence[float]) -> nn.Module:
    """Return our network of these sizes, its tensors without storage."""
    with torch.device("meta"):
        return vgg11(
            classes=sizes.classes,
            mean=mean,
            std=std,
            size=sizes.size,
            width=sizes.width,
            hidden=sizes.hidden,
            bias=sizes.bias,
        )


def _tensor_issues(
    tensors: Mapping[str, Tensor], names: Mapping[str, str], network: nn.Module
) -> Iterator[Issue]:
    """Yield what is wrong with shapes, types and values; a threshold is one float."""
    wanted = {name: (tuple(t.shape), t.dtype) for name, t in network.state_dict().items()}
    for theirs, ours in names.items():
        tensor = tensors[theirs]
        shape, dtype = wanted.get(ours, ((), torch.float32))
        if tuple(tensor.shape) != shape:
            problem = f"has shape {tuple(tensor.shape)}, not {shape}"
            yield Issue(theirs, problem, "pass a VGG-11 for these channels", "shape")
        elif tensor.dtype != dtype:
            yield Issue(theirs, f"has type {tensor.dtype}, not {dtype}", "convert it", "type")
        elif not torch.isfinite(tensor).all():
            yield Issue(theirs, "holds NaN or infinity", "train the network again", "finite")
