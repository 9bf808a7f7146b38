import re

import pytest
from snnc import data
from snnc.errors import InvalidFile, InvalidSetting, Refusal, UnknownName
from snnc.learn.objectives import Standard, Trades
from snnc.learn.plan import with_objective
from snnc.learn.recipes import available, differences, load_recipe, override, read_recipe


def refused(*overrides):
    """Return the text of the error that the digits recipe gives with these overrides."""
    with pytest.raises(Refusal) as caught:
        load_recipe("digits", overrides)
    return str(caught.value)


def test_the_digits_recipe_is_installed_and_valid():
    recipe = load_recipe("digits")
    assert "digits" in available()
    assert (recipe.name, recipe.data.name, recipe.convert.steps) == ("digits", "digits", 8)
    assert recipe.prune.sparsity >= 0.9
    assert isinstance(recipe.train.objective, Trades)
    assert recipe.twin is not None and recipe.twin.objective == Standard()


def test_a_recipe_may_be_a_file(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_bytes(available()["digits"])
    assert load_recipe(path) == load_recipe(str(path)) == load_recipe("digits")


def test_an_override_replaces_one_value():
    changed = load_recipe("digits", ["train.epochs=3", "seed=5", "train.objective.beta=1"])
    assert (changed.train.epochs, changed.seed, changed.train.objective.beta) == (3, 5, 1)
    assert changed.finetune == load_recipe("digits").finetune


@pytest.mark.parametrize(
    ("assignment", "expected"),
    [
        ("a.b=3", {"a": {"b": 3, "c": 1}}),
        ("a.b = 2.5", {"a": {"b": 2.5, "c": 1}}),
        ("a.b=[1, 2]", {"a": {"b": [1, 2], "c": 1}}),
        ("a.b=text", {"a": {"b": "text", "c": 1}}),
        ("a.b='x=y'", {"a": {"b": "x=y", "c": 1}}),
        ("new.key=true", {"a": {"b": 0, "c": 1}, "new": {"key": True}}),
    ],
)
def test_an_override_reads_its_value_as_toml(assignment, expected):
    table = {"a": {"b": 0, "c": 1}}
    assert override(table, assignment) == expected
    assert table == {"a": {"b": 0, "c": 1}}


@pytest.mark.parametrize("assignment", ["train.epochs", "=3", "train..epochs=3", "seed.x=3"])
def test_an_override_that_sets_nothing_is_refused(assignment):
    with pytest.raises(InvalidSetting):
        load_recipe("digits", [assignment])


def test_an_unknown_key_gets_the_nearest_valid_one():
    assert "train.epoch: is not a key; did you mean 'epochs'?" in refused("train.epoch=3")
    assert "sead: is not a key; did you mean 'seed'?" in refused("sead=3")
    assert "finetune.objective.epsilonn: is not a key; did you mean 'epsilon'?" in refused(
        "finetune.objective.epsilonn=1"
    )


def test_all_problems_are_told_at_once():
    text = refused("train.epochs=0", "prune.sparsity=1.0", "convert.steps=0", "extra=1")
    assert [line.split(":")[0].strip() for line in text.splitlines()[1:]] == [
        "train.epochs",
        "prune.sparsity",
        "convert.steps",
        "extra",
    ]


@pytest.mark.parametrize(
    ("assignment", "sentence"),
    [
        ("convert.steps=0", "convert.steps: is 0; take at least 1"),
        ("finetune.objective.epsilon=-0.1", "finetune.objective.epsilon: is -0.1; take more than"),
        ("train.objective.epsilon=2", "train.objective.epsilon: is 2; take at most 1"),
        ("prune.sparsity=1", "prune.sparsity: is 1; take less than 1"),
        ("prune.sparsity=-1", "prune.sparsity: is -1; take at least 0"),
        ("prune.method='hidra'", "prune.method: is 'hidra'; did you mean 'hydra'"),
        ("prune.method='hydra'", "prune.scores: is missing; add it"),
        ("data.augment=[{kind='flop'}]", "data.augment.0.kind: is 'flop'; did you mean 'flip'"),
        ("data.augment=[{kind='crop', pad=4}]", "data.augment.0.pad: is not a key; did you mean"),
        ("data.augment=[{padding=4}]", "data.augment.0: has no kind; add kind = one of crop, flip"),
        ("data.samples=0", "data.samples: is 0; take at least 1"),
        ("train.precision='float16'", "train.precision: is 'float16'; did you mean 'bfloat16'"),
        ("train.curriculum={start=0.5, epochs=20}", "train: does not fit together; the curriculum"),
        ("train.objective.kind='tradse'", "train.objective.kind: is 'tradse'; did you mean 'trad"),
        ("twin.objective={}", "twin.objective: has no kind; add kind = one of standard, pgd"),
        ("convert.reset='zer'", "convert.reset: is 'zer'; did you mean 'zero'?"),
        ("convert.surrogate='trangle'", "convert.surrogate: is 'trangle'; did you mean 'triangle"),
        ("convert.keep=1.5", "convert.keep: is 1.5; take at most 1"),
        ("train.rate=nan", "train.rate: is nan; give a finite number"),
        ("train.rate=inf", "train.rate: is inf; give a finite number"),
        ("train.batch=true", "train.batch: is True; give a whole number"),
        ("train.batch=1.5", "train.batch: is 1.5; give a whole number"),
        ("data.name=3", "data.name: is 3; give text in quotes"),
        ("model=3", "model: is 3; give a table"),
        ("format=2", "format: is 2; known: 1"),
    ],
)
def test_a_wrong_value_is_refused_in_one_clear_sentence(assignment, sentence):
    assert f"\n  {sentence}" in refused(assignment)


def test_a_missing_key_is_named(tmp_path):
    text = available()["digits"].decode()
    path = tmp_path / "short.toml"
    path.write_text(re.sub(r"(?m)^seed = .*$", "", text))
    with pytest.raises(Refusal, match="seed: is missing; add it"):
        load_recipe(path)


def test_a_misspelt_recipe_gets_a_suggestion():
    with pytest.raises(UnknownName, match="no recipe named 'digit'; did you mean 'digits'"):
        load_recipe("digit")


@pytest.mark.parametrize("content", [b"", b"format = ", b"\xff\xfe"])
def test_a_file_that_is_not_toml_is_refused(tmp_path, content):
    path = tmp_path / "broken.toml"
    path.write_bytes(content)
    with pytest.raises(InvalidFile, match=r"broken\.toml"):
        read_recipe(path)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(InvalidFile, match="does not exist"):
        load_recipe(tmp_path / "none.toml")


def test_differences_are_listed_by_key():
    old = {"a": {"b": 1, "c": [1]}, "gone": True}
    new = {"a": {"b": 2, "c": [1]}, "come": None}
    assert differences(old, new) == [
        "a.b: 1 before, 2 now",
        "come: absent before, None now",
        "gone: True before, absent now",
    ]


def test_the_twin_differs_in_its_objective_only():
    recipe = load_recipe("digits")
    twin = with_objective(recipe, Standard())
    changed = differences(recipe.model_dump(mode="json"), twin.model_dump(mode="json"))
    assert changed and all(".objective." in line for line in changed)
    assert {twin.train.objective, twin.prune.finetune.objective, twin.finetune.objective} == {
        Standard()
    }


def test_an_extending_recipe_says_only_what_differs(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('extends = "digits"\n[train]\nepochs = 3\n')
    mine, base = load_recipe(path), load_recipe("digits")
    assert mine.train.epochs == 3
    assert mine.train.model_copy(update={"epochs": 20}) == base.train
    assert mine.finetune == base.finetune


def test_a_table_that_names_its_kind_replaces_the_other(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('extends = "digits"\n[prune]\nmethod = "random"\nsparsity = 0.5\n')
    assert load_recipe(path).prune.finetune is None


def test_a_path_to_extend_is_relative_to_its_file(tmp_path):
    (tmp_path / "base.toml").write_bytes(available()["digits"])
    (tmp_path / "mine.toml").write_text('extends = "base.toml"\nseed = 7\n')
    assert load_recipe(tmp_path / "mine.toml").seed == 7


def test_recipes_that_extend_each_other_are_refused(tmp_path):
    (tmp_path / "a.toml").write_text('extends = "b.toml"\n')
    (tmp_path / "b.toml").write_text('extends = "a.toml"\n')
    with pytest.raises(InvalidFile, match=r"a\.toml extends .*b\.toml extends .*a\.toml; take out"):
        load_recipe(tmp_path / "a.toml")


@pytest.mark.parametrize("name", sorted(available()))
def test_every_installed_recipe_is_valid_and_described(name):
    recipe = load_recipe(name)
    assert recipe.name == name
    assert recipe.about is not None
    assert recipe.data.name in data.names()


@pytest.mark.parametrize(
    ("assignment", "sentence"),
    [
        ("train.momentum=1", "train.momentum: is 1; take less than 1"),
        ("name='../evil'", "name: is '../evil'; give letters, digits"),
        ("data.augment='flip'", "data.augment: is 'flip'; give a list in brackets"),
    ],
)
def test_a_value_of_another_kind_is_refused_too(assignment, sentence):
    assert f"\n  {sentence}" in refused(assignment)
