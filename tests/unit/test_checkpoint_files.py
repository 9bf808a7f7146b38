"""Checkpoints: the round trip, and every kind of file that must be refused."""

from __future__ import annotations

import dataclasses
import io
import os
import pickle
import sys
import types
import warnings
import zipfile
from collections import OrderedDict
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
import torch
from snnc.errors import (
    CannotWrite,
    InvalidFile,
    InvalidSetting,
    OutputExists,
    UnknownName,
)
from snnc.frontend import architecture, torchfile
from snnc.frontend.checkpoint import (
    Checkpoint,
    SpikingSettings,
    from_module,
    from_state_dict,
    load_checkpoint,
    save_checkpoint,
    to_module,
)
from snnc.frontend.torch_module import from_torch
from snnc.ir.graph import Granularity, Reset
from snnc.ir.store import graph_bytes
from snnc.learn.spiking import SpikingNetwork, to_spiking
from snnc.learn.surrogates import TRIANGLE, Surrogate
from torch import nn

ARGUMENTS = {"channels": [4, 6], "classes": 3}
SHAPE = (1, 4, 4)


def small(channels: list[int], classes: int) -> nn.Module:
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for block, (before, after) in enumerate(zip((1, *channels), channels, strict=False), start=1):
        layers[f"conv{block}"] = nn.Conv2d(before, after, 3, padding=1)
        layers[f"norm{block}"] = nn.BatchNorm2d(after)
        layers[f"relu{block}"] = nn.ReLU()
    layers["pool"] = nn.AvgPool2d(4)
    layers["flatten"] = nn.Flatten()
    layers["readout"] = nn.Linear(channels[-1], classes)
    return nn.Sequential(layers)


@pytest.fixture(autouse=True)
def offered(monkeypatch):
    """Offer `small` under the name `small`, as an installed package would."""
    module = types.ModuleType("offered_networks")
    module.small = small
    monkeypatch.setitem(sys.modules, "offered_networks", module)
    point = EntryPoint("small", "offered_networks:small", architecture.GROUP)
    monkeypatch.setattr(architecture, "entry_points", lambda group: [point])


def ann() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        network = small(**ARGUMENTS)
    with torch.no_grad():
        network.get_parameter("conv2.weight")[:, ::2] = 0.0
    return network.eval()


def snn() -> SpikingNetwork:
    return to_spiking(
        ann(),
        input_shape=SHAPE,
        steps=3,
        reset=Reset.SUBTRACT,
        keep=0.75,
        granularity=Granularity.CHANNEL,
        surrogate=Surrogate("box", 2.0),
    ).eval()


def checkpoint(network: nn.Module | None = None, **changes: object) -> Checkpoint:
    made = from_module(
        network or ann(),
        architecture="small",
        arguments=ARGUMENTS,
        input_shape=SHAPE,
        class_names=("a", "b", "c"),
        provenance={"seed": 3, "metrics": {"clean": 0.5}},
    )
    return dataclasses.replace(made, **changes)


def images(count: int) -> torch.Tensor:
    return torch.rand(count, *SHAPE, generator=torch.Generator().manual_seed(2))


def rewrite(path: Path, change) -> None:
    """Save the content of a checkpoint again, as somebody else might have written it."""
    content = torch.load(path, weights_only=True)
    change(content)
    torch.save(content, path)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "model.pt"
    save_checkpoint(path, checkpoint(), force=False)
    return path


def test_an_ann_comes_back_with_the_same_weights_and_outputs(path):
    network = to_module(load_checkpoint(path))
    assert not network.training
    assert not isinstance(network, SpikingNetwork)
    assert torch.equal(network(images(5)), ann()(images(5)))


def test_a_spiking_network_comes_back_with_the_same_spikes_and_settings(tmp_path):
    network = snn()
    with torch.no_grad():
        for index, fire in enumerate(network.fires.values()):
            fire.threshold.mul_(0.3 + index)
    save_checkpoint(tmp_path / "model.pt", checkpoint(network), force=False)
    loaded = load_checkpoint(tmp_path / "model.pt")
    assert loaded.kind == "snn"
    assert loaded.spiking == SpikingSettings(
        steps=3,
        reset=Reset.SUBTRACT,
        keep=0.75,
        granularity=Granularity.CHANNEL,
        surrogate=Surrogate("box", 2.0),
    )
    again = to_module(loaded)
    assert isinstance(again, SpikingNetwork)
    assert torch.equal(again(images(5)), network(images(5)))
    assert graph_bytes(from_torch(again, input_shape=SHAPE)) == graph_bytes(
        from_torch(network, input_shape=SHAPE)
    )


def test_the_facts_of_a_checkpoint_come_back(path):
    loaded = load_checkpoint(path)
    assert (loaded.kind, loaded.architecture, loaded.spiking) == ("ann", "small", None)
    assert loaded.arguments == ARGUMENTS
    assert loaded.input_shape == SHAPE
    assert loaded.class_names == ("a", "b", "c")
    assert loaded.provenance == {"seed": 3, "metrics": {"clean": 0.5}}


def test_every_zero_weight_is_exactly_zero_after_a_load(path):
    weight = load_checkpoint(path).state["conv2.weight"]
    assert (weight[:, ::2] == 0).all()
    assert (to_module(load_checkpoint(path)).get_parameter("conv2.weight")[:, ::2] == 0).all()


def test_equal_checkpoints_give_equal_bytes(path, tmp_path):
    save_checkpoint(tmp_path / "other.pt", checkpoint(), force=False)
    assert (tmp_path / "other.pt").read_bytes() == path.read_bytes()


def test_from_module_copies_the_weights():
    network = ann()
    made = checkpoint(network)
    with torch.no_grad():
        network.get_parameter("readout.bias").add_(1.0)
    assert not torch.equal(made.state["readout.bias"], network.get_parameter("readout.bias"))


def test_loading_leaves_the_random_state_alone(path):
    before = torch.random.get_rng_state()
    to_module(load_checkpoint(path))
    assert torch.equal(torch.random.get_rng_state(), before)


def test_an_existing_path_is_replaced_only_with_force(path):
    before = path.read_bytes()
    with pytest.raises(OutputExists, match="--force"):
        save_checkpoint(path, checkpoint(class_names=()), force=False)
    assert path.read_bytes() == before
    save_checkpoint(path, checkpoint(class_names=()), force=True)
    assert load_checkpoint(path).class_names == ()


def test_a_path_that_cannot_be_written_leaves_nothing_behind(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(CannotWrite, match=r"cannot write .*model\.pt"):
        save_checkpoint(tmp_path / "file" / "model.pt", checkpoint(), force=False)
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_a_full_disk_leaves_the_old_checkpoint(path, monkeypatch):
    before = path.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(CannotWrite, match="No space left on device"):
        save_checkpoint(path, checkpoint(class_names=()), force=True)
    assert path.read_bytes() == before
    assert [entry.name for entry in path.parent.iterdir()] == ["model.pt"]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_network_with_a_broken_weight_is_not_saved(tmp_path, value):
    made = checkpoint()
    made.state["norm1.running_var"][2] = value
    with pytest.raises(InvalidSetting, match=r"'norm1\.running_var' hold NaN or infinity"):
        save_checkpoint(tmp_path / "model.pt", made, force=False)
    assert not list(tmp_path.iterdir())


def test_provenance_that_is_no_json_is_refused(tmp_path):
    with pytest.raises(InvalidSetting, match="JSON"):
        save_checkpoint(tmp_path / "m.pt", checkpoint(provenance={"x": {1, 2}}), force=False)


def test_spiking_layers_with_different_settings_are_refused():
    network = snn()
    next(iter(network.fires.values())).keep = 1.0
    with pytest.raises(InvalidSetting, match="2 different settings"):
        checkpoint(network)


def saved(value: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def scripted() -> bytes:
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated
        torch.jit.save(torch.jit.script(nn.Linear(2, 2)), buffer)
    return buffer.getvalue()


def exported() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:  # the layout that torch.export.save writes
        for name in ("archive_format", "archive_version", "models/model.json"):
            archive.writestr(f"archive/{name}", "1")
    return buffer.getvalue()


def compressed() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"0" * 10**6)
    return buffer.getvalue()


class Trap:
    """Creates a file when it is unpickled by the ordinary reader."""

    def __reduce__(self):
        return (os.mkdir, ("trapped",))


@pytest.mark.parametrize(
    ("content", "fact"),
    [
        (lambda: b"", "is empty"),
        (lambda: b"hello", "is not a checkpoint"),
        (lambda: b"PK\x03\x04hello", "is truncated or damaged"),
        (lambda: pickle.dumps(Trap()), "is a bare pickle, and reading a pickle can run any code"),
        (lambda: saved(Trap()), r"holds more than tensors \((posix|nt)\.mkdir\).* can run code"),
        (lambda: saved({"a": torch.ones(1), "b": Trap()}), "holds more than tensors"),
        (lambda: saved(nn.Linear(2, 2)), r"holds more than tensors \(torch\.nn.*\.Linear\)"),
        (scripted, "is a TorchScript archive"),
        (exported, r"is a \.pt2 archive"),
        (compressed, "holds compressed members"),
        (lambda: saved(ann().state_dict()), "is a bare state dict.*from_state_dict"),
        (lambda: saved({"epoch": 3, "state_dict": {}}), "holds a dict of 'epoch', 'state_dict'"),
        (lambda: saved([1, 2]), "holds a list"),
        (lambda: saved({}), "holds a dict of nothing"),
    ],
)
def test_a_file_of_another_kind_is_refused(tmp_path, monkeypatch, content, fact):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "model.pt"
    path.write_bytes(content())
    with pytest.raises(InvalidFile, match=f"(?s){fact}") as caught:
        load_checkpoint(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    assert [entry.name for entry in tmp_path.iterdir()] == ["model.pt"]  # nothing ran


def test_a_pickle_that_passes_the_first_look_still_runs_nothing(tmp_path, monkeypatch):
    """The list of names is only for the message; torch's reader refuses by itself."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torchfile, "_refuse_code", lambda path, content: None)
    Path("model.pt").write_bytes(saved(Trap()))
    with pytest.raises(InvalidFile, match="its pickle cannot be read"):
        load_checkpoint(Path("model.pt"))
    assert not Path("trapped").exists()


def test_a_flipped_bit_in_a_bare_state_dict_is_refused(tmp_path):
    weights = torch.arange(64.0)
    content = bytearray(saved({"weight": weights}))
    content[content.index(weights.numpy().tobytes()) + 77] ^= 4
    (tmp_path / "weights.pt").write_bytes(bytes(content))
    with pytest.raises(InvalidFile, match="does not match its checksum"):
        torchfile.read(tmp_path / "weights.pt")


def test_a_refused_pickle_names_the_way_out(tmp_path):
    (tmp_path / "model.pt").write_bytes(saved(nn.Linear(2, 2)))
    with pytest.raises(InvalidFile, match=r"save network\.state_dict\(\).*from_state_dict"):
        load_checkpoint(tmp_path / "model.pt")


def test_a_missing_file_and_a_directory_are_refused(tmp_path):
    with pytest.raises(InvalidFile, match=r"none\.pt does not exist"):
        load_checkpoint(tmp_path / "none.pt")
    with pytest.raises(InvalidFile, match="is a directory"):
        load_checkpoint(tmp_path)


def test_every_truncation_is_refused(path):
    content = path.read_bytes()
    for length in {1, 5, 40, len(content) // 2, len(content) - 30, len(content) - 1}:
        path.write_bytes(content[:length])
        with pytest.raises(InvalidFile):
            load_checkpoint(path)


def test_a_flipped_bit_is_refused_or_changes_nothing(path):
    """Padding between the members of the zip means nothing, so flips there may go unseen."""
    content = path.read_bytes()
    expected = checkpoint()
    refused = 0
    for place in range(0, len(content), 37):
        flipped = bytearray(content)
        flipped[place] ^= 1 << (place % 8)
        path.write_bytes(bytes(flipped))
        try:
            found = load_checkpoint(path)
        except InvalidFile:
            refused += 1
            continue
        assert dataclasses.replace(found, state={}, arguments={}, provenance={}).__dict__ == (
            dataclasses.replace(expected, state={}, arguments={}, provenance={}).__dict__
        )
        assert all(torch.equal(found.state[name], expected.state[name]) for name in expected.state)
    assert refused > 100


def test_a_weight_changed_with_a_valid_zip_around_it_is_refused(path):
    rewrite(path, lambda content: content["state"]["readout.bias"].add_(1.0))
    with pytest.raises(InvalidFile, match="does not match its checksum"):
        load_checkpoint(path)


def test_a_header_changed_with_a_valid_zip_around_it_is_refused(path):
    rewrite(path, lambda content: content["header"].update(architecture="other"))
    with pytest.raises(InvalidFile, match="does not match its checksum"):
        load_checkpoint(path)


def test_an_unknown_version_is_refused(path):
    rewrite(path, lambda content: content.update(version=2))
    with pytest.raises(InvalidFile, match="has version 2, this snnc reads 1"):
        load_checkpoint(path)


def test_a_tensor_that_claims_more_than_the_file_holds_is_refused(tmp_path):
    torch.save({"huge": torch.zeros(1).expand(10**9)}, tmp_path / "model.pt")
    with pytest.raises(InvalidFile, match="'huge', which is larger than the file"):
        torchfile.read(tmp_path / "model.pt")


def test_a_header_that_breaks_a_rule_is_refused(path):
    from snnc.frontend.checkpoint import _digest

    def steal(content):
        content["header"]["input_shape"] = [1, -4, 4]
        content["sha256"] = _digest(content["header"], content["state"])

    rewrite(path, steal)
    with pytest.raises(InvalidFile, match="input_shape is"):
        load_checkpoint(path)


def test_a_checkpoint_with_nan_is_refused_and_names_the_tensor(path):
    from snnc.frontend.checkpoint import _digest

    def break_weight(content):
        content["state"]["conv1.weight"][0] = float("nan")
        content["sha256"] = _digest(content["header"], content["state"])

    rewrite(path, break_weight)
    with pytest.raises(InvalidFile, match=r"'conv1\.weight' hold NaN or infinity"):
        load_checkpoint(path)


def test_a_misspelt_architecture_gets_a_suggestion():
    with pytest.raises(UnknownName, match="no architecture named 'smal'; did you mean"):
        to_module(checkpoint(architecture="smal"))


def test_wrong_arguments_are_refused():
    with pytest.raises(InvalidSetting, match=r"'small' failed .*'depth'"):
        to_module(checkpoint(arguments={"depth": 3}))


def test_all_differences_of_a_state_dict_are_listed_at_once():
    made = checkpoint()
    state = dict(made.state)
    del state["conv1.weight"]
    state["extra"] = torch.ones(2)
    state["readout.bias"] = torch.ones(7)
    state["readout.weight"] = state["readout.weight"].double()
    with pytest.raises(InvalidFile) as caught:
        to_module(dataclasses.replace(made, state=state))
    for fact in (
        "lacks 'conv1.weight'",
        "has 'extra', which the network lacks",
        "'readout.bias' has shape (7,), not (3,)",
        "'readout.weight' has type torch.float64, not torch.float32",
    ):
        assert fact in str(caught.value)


@pytest.fixture
def foreign(monkeypatch):
    """A module of the user's, importable, that counts its imports' calls."""
    module = types.ModuleType("my_networks")
    module.Net = lambda width: nn.Sequential(nn.Linear(4, width), nn.ReLU(), nn.Linear(width, 2))
    module.number = lambda: 3
    monkeypatch.setitem(sys.modules, "my_networks", module)
    return module


def test_python_code_named_by_a_file_runs_only_with_trust(foreign):
    network = foreign.Net(5).eval()
    made = from_module(
        network,
        architecture="my_networks:Net",
        arguments={"width": 5},
        input_shape=(4,),
        class_names=(),
        provenance={},
    )
    with pytest.raises(InvalidSetting, match="if you trust it, pass --trust"):
        to_module(made)
    x = torch.ones(2, 4)
    assert torch.equal(to_module(made, trust=True)(x), network(x))


def test_a_bare_state_dict_loads_into_the_users_own_network(foreign, tmp_path):
    network = foreign.Net(5).eval()
    torch.save(network.state_dict(), tmp_path / "weights.pt")
    loaded = from_state_dict(
        tmp_path / "weights.pt",
        architecture="my_networks:Net",
        arguments={"width": 5},
        input_shape=(4,),
    )
    x = torch.ones(2, 4)
    assert torch.equal(loaded(x), network(x))


@pytest.mark.parametrize(
    ("change", "fact"),
    [
        ({"input_shape": (3, 8, 8)}, r"does not accept images of shape \(3, 8, 8\)"),
        ({"architecture": "my_networks:None_"}, "cannot import architecture"),
        ({"architecture": "no_such_module_x:Net"}, "cannot import architecture"),
        ({"architecture": "my_networks:number", "arguments": {}}, "returns int"),
    ],
)
def test_a_wrong_description_of_a_bare_state_dict_is_refused(foreign, tmp_path, change, fact):
    torch.save(foreign.Net(5).state_dict(), tmp_path / "weights.pt")
    description = {
        "architecture": "my_networks:Net",
        "arguments": {"width": 5},
        "input_shape": (4,),
    }
    with pytest.raises(InvalidSetting, match=fact):
        from_state_dict(tmp_path / "weights.pt", **{**description, **change})


def test_a_bare_state_dict_must_be_one(path, tmp_path):
    with pytest.raises(InvalidFile, match="not a bare state dict"):
        from_state_dict(path, architecture="small", arguments={}, input_shape=SHAPE)


def test_the_default_surrogate_survives_the_round_trip(tmp_path):
    network = snn()
    for fire in network.fires.values():
        fire.surrogate = TRIANGLE
    save_checkpoint(tmp_path / "model.pt", checkpoint(network), force=False)
    spiking = load_checkpoint(tmp_path / "model.pt").spiking
    assert spiking is not None
    assert spiking.surrogate == TRIANGLE


def test_the_architectures_of_this_project_are_found(monkeypatch):
    monkeypatch.undo()
    assert "small_conv" in architecture.available()


def test_two_packages_may_not_offer_the_same_architecture(monkeypatch):
    points = [EntryPoint("small", f"{place}:small", architecture.GROUP) for place in "ab"]
    monkeypatch.setattr(architecture, "entry_points", lambda group: points)
    with pytest.raises(InvalidSetting, match="two packages offer architecture 'small'"):
        to_module(checkpoint())
