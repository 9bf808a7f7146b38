"""Checkpoints, `model.pt`: an architecture's name, its arguments, and a state dict.

The file is what `torch.save` writes for a plain dict of JSON values and tensors; it is read
without running code from it. A checksum covers everything. Sparsity needs no mask here: a
pruned weight is a zero of the state dict.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeGuard

import torch
from torch import Tensor, nn

from snnc.errors import InvalidFile, InvalidSetting
from snnc.frontend import torchfile
from snnc.frontend.architecture import build
from snnc.frontend.header import Header, SpikingSettings, header_from_json, header_to_json
from snnc.frontend.observed import empty_images
from snnc.frontend.tracing import evaluating
from snnc.ir.files import write_bytes
from snnc.ir.weights import Shape
from snnc.learn.spiking import SpikingNetwork, to_spiking

FORMAT, VERSION = "snnc checkpoint", 1
KEYS = ("format", "version", "header", "state", "sha256")


@dataclass(frozen=True, kw_only=True, eq=False)
class Checkpoint(Header):
    """A trained network as data. Tensors are on the CPU and contiguous."""

    state: Mapping[str, Tensor]


def save_checkpoint(path: Path, checkpoint: Checkpoint, *, force: bool) -> None:
    """Write a checkpoint, whole or not at all; equal checkpoints give equal bytes.

    Raises:
        OutputExists: the path exists and `force` is False.
        CannotWrite: the file system refused.
        InvalidSetting: a weight is NaN or infinite, or arguments or provenance are no JSON.
    """
    if names := torchfile.not_finite(dict(checkpoint.state)):
        raise InvalidSetting(
            f"cannot save {path}: {_quoted(names)} hold NaN or infinity; train again"
        )
    header = header_to_json(checkpoint)
    state = {name: checkpoint.state[name] for name in sorted(checkpoint.state)}
    content = {
        "format": FORMAT,
        "version": VERSION,
        "header": header,
        "state": state,
        "sha256": _digest(header, state),
    }
    buffer = io.BytesIO()
    torch.save(content, buffer)
    write_bytes(path, buffer.getvalue(), force=force)


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint; no code of the file runs.

    Raises:
        InvalidFile: the file is missing, damaged, unsafe to read, of another kind or version,
            or a weight is NaN or infinite.
    """
    content = torchfile.read(path)
    if _is_state_dict(content):
        raise InvalidFile(
            f"{path} is a bare state dict, which does not say what network it belongs to; "
            "read it with snnc.frontend.checkpoint.from_state_dict, naming the architecture"
        )
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise InvalidFile(
            f"{path} holds {_described(content)}, not a checkpoint of snnc; {torchfile.REMEDY}"
        )
    if content.get("version") != VERSION:
        raise InvalidFile(
            f"{path} has version {content.get('version')!r}, this snnc reads {VERSION}; "
            "use the snnc that wrote it"
        )
    if tuple(content) != KEYS or not _is_state_dict(content["state"]):
        raise InvalidFile(f"{path} is damaged: its parts are not as written; write it again")
    header, state = content["header"], content["state"]
    try:
        damaged = content["sha256"] != _digest(header, state)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidFile(f"{path} is damaged: its header is no JSON; write it again") from error
    if damaged:
        raise InvalidFile(f"{path} is damaged: it does not match its checksum; write it again")
    _refuse_not_finite(path, state)
    try:
        fields = header_from_json(header)
    except ValueError as error:
        raise InvalidFile(f"{path} is damaged: {error}; write it again") from error
    return Checkpoint(**vars(fields), state=state)


def to_module(checkpoint: Checkpoint, *, trust: bool = False) -> nn.Module | SpikingNetwork:
    """Return the network of a checkpoint in eval mode: the module, or a `SpikingNetwork`.

    Raises:
        UnknownName, InvalidSetting, MissingDependency: see `build`; `trust` is passed on.
        InvalidFile: the weights do not fit the architecture; every difference is listed.
    """
    network = build(checkpoint.architecture, checkpoint.arguments, trust=trust)
    if checkpoint.spiking is not None:
        settings = checkpoint.spiking
        network = to_spiking(
            network,
            input_shape=checkpoint.input_shape,
            steps=settings.steps,
            reset=settings.reset,
            keep=settings.keep,
            granularity=settings.granularity,
            surrogate=settings.surrogate,
        )
    return _filled(network, checkpoint.state, checkpoint.architecture)


def from_module(
    network: nn.Module,
    *,
    architecture: str,
    arguments: Mapping[str, object],
    input_shape: Shape,
    class_names: tuple[str, ...],
    provenance: Mapping[str, object],
) -> Checkpoint:
    """Return the checkpoint of a network, with copies of its weights.

    For a `SpikingNetwork`, architecture and arguments are those of the network it was
    converted from.

    Raises:
        InvalidSetting: the spiking layers have different settings.
    """
    spiking = spiking_settings(network) if isinstance(network, SpikingNetwork) else None
    kind: Literal["ann", "snn"] = "ann" if spiking is None else "snn"
    state = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in network.state_dict().items()
    }
    return Checkpoint(
        kind=kind,
        architecture=architecture,
        arguments=dict(arguments),
        input_shape=tuple(input_shape),
        class_names=tuple(class_names),
        spiking=spiking,
        provenance=dict(provenance),
        state=state,
    )


def spiking_settings(network: SpikingNetwork) -> SpikingSettings:
    """Return the settings that all spiking layers of a network share.

    Raises:
        InvalidSetting: they do not share them.
    """
    found = {
        SpikingSettings(
            steps=fire.steps,
            reset=fire.reset,
            keep=fire.keep,
            granularity=fire.granularity,
            surrogate=fire.surrogate,
        )
        for fire in network.fires.values()
    }
    if len(found) != 1:
        raise InvalidSetting(
            f"the spiking layers have {len(found)} different settings, a checkpoint holds one; "
            "give all layers the same"
        )
    return found.pop()


def from_state_dict(
    path: Path, *, architecture: str, arguments: Mapping[str, object], input_shape: Shape
) -> nn.Module:
    """Return a user's own network, in eval mode, with the weights of a bare state dict.

    `architecture` is an installed name or "module:callable", which is imported: the user
    named it. The network is tried on one empty image of `input_shape`.

    Raises:
        UnknownName, InvalidSetting, MissingDependency: see `build`; InvalidSetting also if
            the network does not accept such images.
        InvalidFile: see `load_checkpoint`; also if the weights do not fit the architecture.
    """
    state = torchfile.read(path)
    if not _is_state_dict(state):
        raise InvalidFile(
            f"{path} holds {_described(state)}, not a bare state dict; {torchfile.REMEDY}"
        )
    _refuse_not_finite(path, state)
    network = _filled(build(architecture, arguments, trust=True), state, architecture)
    try:
        with evaluating(network), torch.no_grad():
            network(empty_images(network, (1, *input_shape)))
    except Exception as error:
        raise InvalidSetting(
            f"{architecture!r} does not accept images of shape {tuple(input_shape)}: {error}; "
            "pass the shape it was made for"
        ) from error
    return network


def _filled(network: nn.Module, state: Mapping[str, Tensor], architecture: str) -> nn.Module:
    """Load a state dict that must fit exactly; return the network in eval mode."""
    wanted = network.state_dict()
    problems = [f"lacks {name!r}" for name in wanted if name not in state]
    problems += [f"has {name!r}, which the network lacks" for name in state if name not in wanted]
    for name in wanted.keys() & state.keys():
        needs, has = wanted[name], state[name]
        if needs.shape != has.shape:
            problems.append(f"{name!r} has shape {tuple(has.shape)}, not {tuple(needs.shape)}")
        elif needs.dtype != has.dtype:
            problems.append(f"{name!r} has type {has.dtype}, not {needs.dtype}")
    if problems:
        raise InvalidFile(
            f"the weights do not fit architecture {architecture!r}: {', '.join(problems)}; "
            "name the architecture and the arguments that they were trained with"
        )
    network.load_state_dict(state)
    return network.eval()


def _digest(header: object, state: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of the header as canonical JSON and of every tensor's bytes."""
    digest = hashlib.sha256(json.dumps(header, sort_keys=True, allow_nan=False).encode())
    for name in sorted(state):
        tensor = state[name].detach().contiguous()
        digest.update(f"\n{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _refuse_not_finite(path: Path, state: dict[str, Tensor]) -> None:
    if names := torchfile.not_finite(state):
        raise InvalidFile(f"{path}: {_quoted(names)} hold NaN or infinity; train the network again")


def _is_state_dict(value: object) -> TypeGuard[dict[str, Tensor]]:
    return (
        isinstance(value, dict)
        and bool(value)
        and all(isinstance(key, str) for key in value)
        and all(isinstance(item, Tensor) for item in value.values())
    )


def _described(value: object) -> str:
    if isinstance(value, dict):
        return f"a dict of {', '.join(map(repr, list(value)[:5])) or 'nothing'}"
    return f"a {type(value).__name__}"


def _quoted(names: list[str]) -> str:
    return ", ".join(map(repr, names))
