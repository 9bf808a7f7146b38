import copy
import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from snnc import data
from snnc.errors import (
    InvalidFile,
    InvalidSetting,
    OutputExists,
    Refusal,
    TrainingFailed,
    UnknownName,
)
from snnc.frontend.checkpoint import load_checkpoint, to_module
from snnc.learn.machine import Machine
from snnc.learn.plan import plan
from snnc.learn.prune import Random, prunable
from snnc.learn.recipes import load_recipe
from snnc.learn.record import Record, fingerprint, stage_key
from snnc.learn.run import HERE, train
from snnc.learn.seeds import spread, train_seeds
from snnc.learn.spiking import SpikingNetwork
from snnc.learn.stage import Context, accuracy, derived, samples
from snnc_models.small import small_conv

QUICK = (
    "model.arguments={channels=[4, 6], pool_after=[1, 2]}",
    "train.epochs=1",
    "train.batch=256",
    "train.objective.steps=1",
    "prune.sparsity=0.5",
    "prune.finetune.epochs=1",
    "prune.finetune.batch=256",
    "prune.finetune.objective.steps=1",
    "convert.steps=2",
    "convert.balance.steps=2",
    "convert.balance.batches=1",
    "finetune.epochs=2",
    "finetune.batch=256",
)
STAGES = ["train", "prune", "recover", "convert", "finetune"]


class Killed(BaseException):
    """Stands for Ctrl-C at a chosen place."""


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # floating-point sums depend on the number of threads
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Return a run that nobody interrupted."""
    return run(tmp_path_factory.mktemp("whole"))


def run(directory, *overrides, resume=False, progress=lambda stage, advance: None, every=60.0):
    recipe = load_recipe("digits", [*QUICK, *overrides])
    where = replace(HERE, every=every)
    return train(recipe, directory, resume=resume, progress=progress, where=where)


def weights(path):
    return load_checkpoint(path).state


def same(one, other):
    one, other = weights(one), weights(other)
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


def test_every_stage_leaves_a_checkpoint_and_its_metrics(whole):
    names = [*STAGES, *(f"twin-{name}" for name in STAGES)]
    assert [result.name for result in whole.stages] == names
    for number, result in enumerate(whole.stages, start=1):
        assert result.checkpoint.name == f"{number:02}-{result.name}.pt"
        stored = json.loads(result.checkpoint.with_suffix(".json").read_text())
        assert stored["seconds"] == result.seconds and stored["metrics"] == result.metrics
        assert 0 <= result.metrics["test_accuracy"] <= 1


def test_the_model_is_the_finetuned_spiking_network(whole):
    checkpoint = load_checkpoint(whole.model)
    network = to_module(checkpoint)
    assert isinstance(network, SpikingNetwork) and checkpoint.kind == "snn"
    assert checkpoint.class_names == tuple("0123456789")
    assert same(whole.model, whole.stages[4].checkpoint)
    assert load_checkpoint(whole.ann).kind == load_checkpoint(whole.twin_ann).kind == "ann"
    assert checkpoint.provenance["recipe"]["seed"] == 0
    assert checkpoint.provenance["stage"] == "finetune"


def test_zero_weights_stay_zero_from_pruning_to_the_model(whole):
    pruned = prunable(to_module(load_checkpoint(whole.ann)))
    final = prunable(to_module(load_checkpoint(whole.model)).body)
    for name, weight in pruned.items():
        assert (weight == 0).float().mean() == pytest.approx(0.5, abs=0.02)  # whole weights
        assert (final[name][weight == 0] == 0).all()


def test_the_twin_is_another_network_of_the_same_sparsity(whole):
    assert not same(whole.model, whole.twin)
    metrics = {result.name: result.metrics for result in whole.stages}
    assert metrics["finetune"]["sparsity"] == metrics["twin-finetune"]["sparsity"]


def test_a_recipe_without_a_twin_trains_none(tmp_path):
    recipe = load_recipe("digits", QUICK).model_copy(update={"twin": None})
    result = train(recipe, tmp_path, resume=False, progress=lambda stage, advance: None)
    assert [stage.name for stage in result.stages] == STAGES
    assert result.twin is None and result.twin_ann is None


@pytest.mark.parametrize(
    ("stage", "done"), [("train", 1), ("recover", 1), ("convert", 2), ("finetune", 1)]
)
def test_an_interrupted_run_ends_with_the_same_weights(whole, tmp_path, stage, done):
    def interrupt(name, advance):
        if (name, advance.done) == (stage, done):
            raise Killed

    with pytest.raises(Killed):
        run(tmp_path, progress=interrupt)
    found = (tmp_path / "checkpoints").glob("*.json")
    finished = {path.name for path in found if ".report." not in path.name}
    assert len(finished) == STAGES.index(stage)
    assert not (tmp_path / "model.pt").exists()
    assert same(run(tmp_path, resume=True).model, whole.model)


def test_a_killed_process_leaves_a_run_that_resumes(whole, tmp_path):
    script = (
        "import sys, os, torch; torch.set_num_threads(1)\n"
        "from pathlib import Path\n"
        "from snnc.learn.recipes import load_recipe\n"
        "from snnc.learn.run import train\n"
        "def progress(stage, advance):\n"
        "    print(stage, flush=True)\n"
        "    if stage == 'finetune': sys.stdin.read()\n"
        f"train(load_recipe('digits', {list(QUICK)!r}), Path(sys.argv[1]), resume=False,\n"
        "      progress=progress)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        while process.stdout.readline().strip() != "finetune":
            assert process.poll() is None
        os.kill(process.pid, signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert same(run(tmp_path, resume=True).model, whole.model)


def test_resuming_repeats_nothing_that_is_finished(whole):
    seen = []
    again = run(whole.directory, resume=True, progress=lambda stage, advance: seen.append(stage))
    assert seen == [] and again == whole


def test_a_repeated_stage_repeats_those_that_build_on_it(whole, tmp_path):
    copied = tmp_path / "copied"
    shutil.copytree(whole.directory, copied)
    (copied / "checkpoints" / "02-prune.json").unlink()
    seen = []
    again = run(copied, resume=True, progress=lambda stage, advance: seen.append(stage))
    assert list(dict.fromkeys(seen)) == ["recover", "convert", "finetune"]
    assert same(again.model, whole.model)


def test_checkpoints_of_an_unknown_recipe_are_not_taken_over(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(OutputExists, match="holds checkpoints but no run.json"):
        run(tmp_path, resume=True)


def test_dropout_draws_from_the_seed_of_the_run_too(tmp_path, monkeypatch):
    def build(*arguments, **keywords):
        *layers, readout = small_conv(channels=[4], pool_after=[1])
        return torch.nn.Sequential(*layers, torch.nn.Dropout(0.5), readout)

    monkeypatch.setattr("snnc.learn.run.build", build)
    results = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        results.append(run(tmp_path / str(seed)))
        assert torch.equal(torch.get_rng_state(), before)
    assert same(results[0].model, results[1].model)


def test_resuming_with_another_recipe_lists_the_differences(whole):
    with pytest.raises(InvalidSetting) as caught:
        run(whole.directory, "finetune.epochs=5", "seed=1", resume=True)
    assert "recipe.finetune.epochs: 2 before, 5 now" in str(caught.value)
    assert "recipe.seed: 0 before, 1 now" in str(caught.value)


def test_a_run_is_never_replaced(whole):
    with pytest.raises(OutputExists, match="holds a training run"):
        run(whole.directory)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"seconds": 1}'])
def test_a_damaged_record_is_refused(tmp_path, content):
    def interrupt(name, advance):
        if name == "recover":
            raise Killed

    with pytest.raises(Killed):
        run(tmp_path, progress=interrupt)
    (tmp_path / "checkpoints" / "01-train.json").write_text(content)
    with pytest.raises(InvalidFile, match=r"01-train\.json"):
        run(tmp_path, resume=True)


def test_a_damaged_checkpoint_is_refused(tmp_path):
    def interrupt(name, advance):
        if name == "recover":
            raise Killed

    with pytest.raises(Killed):
        run(tmp_path, progress=interrupt)
    path = tmp_path / "checkpoints" / "02-prune.pt"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(InvalidFile, match=r"02-prune\.pt"):
        run(tmp_path, resume=True)


def test_a_loss_that_is_not_a_number_names_its_stage(tmp_path):
    with pytest.raises(TrainingFailed, match=r"stage train, epoch 1, batch \d+: the loss is"):
        run(tmp_path, "train.rate=1e30")


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ("data.name='digit'", UnknownName, "did you mean 'digits'"),
        ("model.architecture='smal_conv'", UnknownName, "did you mean 'small_conv'"),
        ("model.arguments={chanels=[4]}", InvalidSetting, "chanels"),
        ("model.arguments={classes=3}", InvalidSetting, "not 10 logits"),
        ("model.arguments={size=16}", InvalidSetting, "does not fit data 'digits'"),
        ("model.arguments={in_channels=3}", InvalidSetting, "1 means for 3 input channels"),
        ("model.arguments={pool_after=[4]}", InvalidSetting, "name some of the 3 blocks"),
        ("prune.sparsity=0.9999999999999", Refusal, "conv1: sparsity .* leaves none"),
    ],
)
def test_a_model_or_data_set_that_does_not_fit_is_refused(tmp_path, change, error, words):
    with pytest.raises(error, match=words):
        run(tmp_path, change)
    assert list(tmp_path.iterdir()) == []


def test_stages_have_streams_of_their_own():
    seeds = {derived(seed, stage) for seed in (0, 1) for stage in STAGES}
    assert len(seeds) == 10 and all(0 <= seed < 2**63 for seed in seeds)


def test_the_conversion_leaves_a_report_of_each_layer(whole):
    path = whole.directory / "checkpoints" / "04-convert.report.json"
    found = json.loads(path.read_text())
    assert [layer["layer"] for layer in found["layers"]] == ["relu1", "relu2"]
    assert found["steps"] == 2 and list(found["accuracy"]["by_steps"]) == ["1", "2", "4", "8"]
    text = path.with_suffix(".txt").read_text()
    assert all(layer["layer"] in text for layer in found["layers"])


def test_a_run_takes_over_what_another_has_trained_already(whole, tmp_path):
    recipe = load_recipe("digits", [*QUICK, "prune.sparsity=0.7"])
    seen = []
    where = replace(HERE, reuse=(whole.directory,))
    result = train(
        recipe, tmp_path, resume=False, progress=lambda stage, _: seen.append(stage), where=where
    )
    assert "train" not in seen and "twin-train" not in seen and "recover" in seen
    assert same(result.stages[0].checkpoint, whole.stages[0].checkpoint)
    assert result.stages[0].metrics == whole.stages[0].metrics
    assert not same(result.model, whole.model)


def test_nothing_is_taken_over_from_another_seed(whole, tmp_path):
    recipe = load_recipe("digits", [*QUICK, "seed=1"]).model_copy(update={"twin": None})
    seen = []
    where = replace(HERE, reuse=(whole.directory,))
    train(recipe, tmp_path, resume=False, progress=lambda stage, _: seen.append(stage), where=where)
    assert "train" in seen


def test_only_the_stages_of_the_recipe_run(tmp_path):
    recipe = load_recipe("digits", QUICK)
    direct = recipe.finetune.model_copy(update={"epochs": 1})
    recipe = recipe.model_copy(
        update={
            "train": None,
            "prune": Random(sparsity=0.5),
            "convert": recipe.convert.model_copy(update={"restart": True, "balance": None}),
            "finetune": None,
            "direct": direct,
            "twin": None,
        }
    )
    result = train(recipe, tmp_path, resume=False, progress=lambda stage, advance: None)
    assert [stage.name for stage in result.stages] == ["prune", "convert", "direct"]
    assert result.ann == result.stages[0].checkpoint
    assert result.stages[-1].metrics["sparsity"] == pytest.approx(0.5, abs=0.02)


def test_a_run_killed_within_a_stage_goes_on_there_and_leaves_no_snapshot(whole, tmp_path):
    seen = []

    def interrupt(name, advance):
        if name == "finetune" and advance.done == 2:
            raise Killed

    with pytest.raises(Killed):
        run(tmp_path, progress=interrupt, every=0.0)
    assert list((tmp_path / "checkpoints").glob("*.part*"))
    result = run(tmp_path, resume=True, progress=lambda stage, a: seen.append((stage, a.done)))
    assert seen[0] == ("finetune", 2)
    assert same(result.model, whole.model)
    assert not list((tmp_path / "checkpoints").glob("*.part*"))


def test_several_seeds_give_a_mean_and_a_deviation(tmp_path):
    recipe = load_recipe("digits", QUICK).model_copy(update={"twin": None})
    results = train_seeds(
        recipe, tmp_path, [0, 1], resume=False, progress=lambda seed: lambda stage, advance: None
    )
    assert [result.directory.name for result in results] == ["seed-0", "seed-1"]
    (found,) = (s for s in spread(results) if (s.stage, s.metric) == ("finetune", "test_accuracy"))
    values = [result.stages[-1].metrics["test_accuracy"] for result in results]
    assert found.values == tuple(values) and values[0] != values[1]
    assert found.mean == pytest.approx(sum(values) / 2)
    assert found.deviation == pytest.approx(abs(values[0] - values[1]) / 2**0.5)


@pytest.mark.parametrize("seeds", [[], [1, 1], [-1]])
def test_seeds_that_make_no_sense_are_refused(tmp_path, seeds):
    with pytest.raises(InvalidSetting, match="give different whole numbers"):
        train_seeds(
            load_recipe("digits", QUICK), tmp_path, seeds, resume=False, progress=lambda seed: None
        )


def test_a_network_of_ones_own_trains_only_with_trust(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(
        "from snnc_models.small import small_conv\n"
        "def net(channels):\n    return small_conv(channels=channels, pool_after=[1])\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    own = "model={architecture='mine:net', arguments={channels=[4]}}"
    recipe = load_recipe("digits", [*QUICK, own]).model_copy(update={"twin": None})
    with pytest.raises(InvalidSetting, match="trust"):
        train(recipe, tmp_path / "run", resume=False, progress=lambda stage, advance: None)
    where = replace(HERE, trust=True)
    result = train(
        recipe, tmp_path / "run", resume=False, progress=lambda stage, advance: None, where=where
    )
    assert load_checkpoint(result.model).architecture == "mine:net"


def test_every_stage_draws_from_a_stream_of_its_own_and_its_twin_from_the_same(
    tmp_path, monkeypatch
):
    seeds = []
    monkeypatch.setattr(
        "snnc.learn.run.Context", lambda **keys: seeds.append(keys["seed"]) or Context(**keys)
    )
    run(tmp_path)
    assert seeds[:5] == seeds[5:] and len(set(seeds)) == 5


def test_the_test_accuracy_is_that_of_the_test_split(whole):
    test = samples(data.load("digits", root=None).test)
    for result in whole.stages:
        network = to_module(load_checkpoint(result.checkpoint)).eval()
        assert result.metrics["test_accuracy"] == accuracy(network, test), result.name


def keys(*overrides, dataset=None, code="code"):
    """Return the key of every stage of a recipe."""
    recipe = load_recipe("digits", [*QUICK, *overrides])
    dataset = dataset or data.load("digits", root=None)
    return {
        stage.name: stage_key(recipe, dataset, code, stage.decided_by) for stage in plan(recipe)
    }


@pytest.mark.parametrize(
    ("change", "first"),
    [
        ("seed=1", "train"),
        ("data.samples=100", "train"),
        ("data.augment=[{kind='flip'}]", "train"),
        ("model.arguments={channels=[4, 7], pool_after=[1, 2]}", "train"),
        ("train.rate=0.2", "train"),
        ("prune.sparsity=0.6", "prune"),
        ("prune.finetune.rate=0.2", "recover"),
        ("convert.steps=3", "convert"),
        ("convert.balance.scale=0.5", "convert"),
        ("finetune.epochs=9", "finetune"),
        ("name='mine'", None),
    ],
)
def test_the_key_of_a_stage_changes_with_what_decides_its_result(change, first):
    before, after = keys(), keys(change)
    changed = [name for name in STAGES if before[name] != after[name]]
    assert changed == ([] if first is None else STAGES[STAGES.index(first) :])


def test_the_key_of_a_stage_changes_with_data_and_code():
    other = replace(data.load("digits", root=None), digest="of other data")
    for changed in (keys(dataset=other), keys(code="of another network")):
        assert not set(changed.values()) & set(keys().values())


def test_a_mask_that_counts_events_depends_on_the_conversion():
    scores = "{epochs=1, batch=64, rate=0.1, momentum=0.9, decay=0.0, validate_every=1,"
    scores += "accumulate=1, precision='float32', objective={kind='standard'}}"
    table = "method='harp', sparsity=0.5, least=0.1, start=0.1, gamma=1.0"
    for budget, same in (("events", False), ("weights", True)):
        prune = f"prune={{{table}, budget='{budget}', scores={scores}}}"
        before, after = keys(prune), keys(prune, "convert.steps=4")
        assert (before["prune"] == after["prune"]) is same


def test_a_fingerprint_sees_the_code_and_the_weights_of_a_network():
    torch.manual_seed(0)
    network = small_conv(channels=[4], pool_after=[1])
    other = copy.deepcopy(network)
    assert fingerprint(network) == fingerprint(other)
    other.relu1 = torch.nn.Identity()
    assert fingerprint(network) != fingerprint(other)
    other = copy.deepcopy(network)
    with torch.no_grad():
        other.conv1.weight[0, 0, 0, 0] += 1e-6
    assert fingerprint(network) != fingerprint(other)
    pool = copy.deepcopy(network)
    pool.pool1 = torch.nn.AvgPool2d(2, ceil_mode=True)
    assert fingerprint(network) != fingerprint(pool)


def test_a_run_of_other_code_under_the_same_name_does_not_go_on(whole, tmp_path):
    copied = tmp_path / "copied"
    shutil.copytree(whole.directory, copied)
    path = copied / "checkpoints" / "01-train.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "key": "of other code"}))
    with pytest.raises(InvalidSetting, match="was trained with other code of the same name"):
        run(copied, resume=True)


def test_a_run_to_reuse_must_be_one(tmp_path):
    recipe = load_recipe("digits", QUICK)
    where = replace(HERE, reuse=(tmp_path / "typo",))
    with pytest.raises(InvalidSetting, match="typo is no run of snnc train"):
        train(recipe, tmp_path / "run", resume=False, progress=lambda s, a: None, where=where)
    assert not (tmp_path / "run").exists()


def test_a_new_description_does_not_stop_a_run_from_going_on(whole):
    recipe = load_recipe("digits", QUICK)
    about = recipe.about.model_copy(update={"expected": "something better"})
    renamed = recipe.model_copy(update={"about": about, "name": "mine"})
    again = train(renamed, whole.directory, resume=True, progress=lambda stage, advance: None)
    assert again == whole


def test_resuming_with_other_data_of_the_same_name_is_refused(tmp_path, monkeypatch):
    def interrupt(name, advance):
        raise Killed

    with pytest.raises(Killed):
        run(tmp_path, progress=interrupt)
    other = replace(data.load("digits", root=None), digest="of other data")
    monkeypatch.setattr(data, "load", lambda name, *, root: other)
    with pytest.raises(InvalidSetting, match=r"data\.digest: .* before, of other data now"):
        run(tmp_path, resume=True)


def test_a_damaged_last_checkpoint_does_not_become_the_model(whole, tmp_path):
    copied = tmp_path / "copied"
    shutil.copytree(whole.directory, copied)
    path = copied / "checkpoints" / "05-finetune.pt"
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(InvalidFile, match=r"05-finetune\.pt"):
        run(copied, resume=True)


@pytest.mark.parametrize("damage", [lambda p: p.unlink(), lambda p: p.write_bytes(b"no")])
def test_a_damaged_checkpoint_is_not_taken_over(whole, tmp_path, damage):
    copied = tmp_path / "copied"
    shutil.copytree(whole.directory, copied)
    damage(copied / "checkpoints" / "01-train.pt")
    where = replace(HERE, reuse=(copied,))
    recipe = load_recipe("digits", QUICK)
    with pytest.raises(InvalidFile, match=r"01-train\.pt"):
        train(recipe, tmp_path / "run", resume=False, progress=lambda s, a: None, where=where)


def test_two_runs_in_one_directory_are_refused(whole):
    record = Record(whole.directory, (), Machine())
    with record.lock(), pytest.raises(OutputExists, match="another process trains in"):
        run(whole.directory, resume=True)
    assert run(whole.directory, resume=True) == whole


def test_a_network_that_no_target_runs_is_told_before_it_is_trained(tmp_path):
    notes = []
    for granularity in ("layer", "neuron"):
        recipe = load_recipe("digits", [*QUICK, f"convert.granularity={granularity}"])
        recipe = recipe.model_copy(update={"twin": None})
        directory = tmp_path / granularity
        train(recipe, directory, resume=False, progress=lambda s, a: None, note=notes.append)
    (found,) = notes
    assert "no target will run this network" in found and "per neuron" in found
