"""Targets are found by name, and a package that is broken harms only who asks for it."""

import sys
from importlib.metadata import EntryPoint

import pytest
from snnc.errors import TargetFailedToLoad, UnknownName
from snnc.targets import registry
from snnc.targets.api import Target


@pytest.fixture
def offered(monkeypatch):
    """Make the installed packages offer these (name, place) targets and no others."""

    def offer(*targets):
        points = [EntryPoint(name, place, registry.GROUP) for name, place in targets]
        monkeypatch.setattr(registry, "entry_points", lambda *, group: points)

    return offer


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    """Put a module of that name and text where it can be imported."""
    monkeypatch.syspath_prepend(tmp_path)

    def write(name, text):
        (tmp_path / f"{name}.py").write_text(text)
        monkeypatch.delitem(sys.modules, name, raising=False)

    return write


def test_our_own_targets_are_installed():
    assert {"reference", "loihi"} <= set(registry.available())
    for name in ("reference", "loihi"):
        target = registry.load(name)
        assert isinstance(target, Target)
        assert target.name == name


def test_a_misspelt_target_gets_a_suggestion():
    with pytest.raises(UnknownName, match=r"^no target named 'lohi'; did you mean 'loihi'\?$"):
        registry.load("lohi")


def test_a_name_near_none_lists_all(offered):
    offered(("chip", "a:T"), ("board", "b:T"))
    with pytest.raises(UnknownName, match="^no target named 'x'; known: board, chip$"):
        registry.load("x")


def test_without_any_package_the_text_says_so(offered):
    offered()
    with pytest.raises(UnknownName, match="known: none"):
        registry.load("loihi")


def test_asking_what_there_is_imports_nothing(offered):
    offered(("chip", "a_module_that_does_not_exist:TARGET"))
    assert list(registry.available()) == ["chip"]


def test_a_plugin_that_lacks_a_module_names_it(offered, plugin):
    plugin("chip_plugin", "import a_driver_that_is_not_installed\n")
    offered(("chip", "chip_plugin:TARGET"))
    with pytest.raises(
        TargetFailedToLoad, match="target 'chip' needs 'a_driver_that_is_not_installed'; install"
    ):
        registry.load("chip")


def test_a_broken_plugin_does_not_disturb_another(offered):
    offered(
        ("chip", "a_module_that_does_not_exist:TARGET"),
        ("reference", "snnc_targets.reference:TARGET"),
    )
    assert registry.load("reference").name == "reference"


# Fails: registry.load turns ImportError alone into TargetFailedToLoad.
@pytest.mark.parametrize(
    "text",
    [
        pytest.param("raise RuntimeError('no licence')", id="an error while it is imported"),
        pytest.param("TARGET = (", id="a syntax error"),
        pytest.param("OTHER = 1", id="a name that is not there"),
    ],
)
def test_a_plugin_that_breaks_while_loading_is_a_deliberate_error(offered, plugin, text):
    plugin("broken_plugin", text + "\n")
    offered(("chip", "broken_plugin:TARGET"))
    with pytest.raises(TargetFailedToLoad, match="chip"):
        registry.load("chip")


def test_what_is_not_a_target_is_refused(offered, plugin):
    plugin("odd_plugin", "TARGET = 3\n")
    offered(("chip", "odd_plugin:TARGET"))
    with pytest.raises(TargetFailedToLoad, match="odd_plugin:TARGET is int, not a Target"):
        registry.load("chip")


def test_two_packages_may_not_offer_the_same_name(offered):
    offered(("chip", "a:TARGET"), ("board", "b:TARGET"), ("chip", "c:TARGET"))
    with pytest.raises(
        TargetFailedToLoad,
        match="two packages offer target 'chip': a:TARGET and c:TARGET; uninstall one",
    ):
        registry.available()


def test_one_package_seen_twice_is_no_conflict(offered):
    """An editable install and its metadata folder can both be on the path."""
    offered(("chip", "a:TARGET"), ("chip", "a:TARGET"))
    assert list(registry.available()) == ["chip"]


CHOOSY = """
from dataclasses import dataclass
from snnc.passes.numbers import Numbers
from snnc.targets.api import Choice, Target, checked_options

@dataclass(frozen=True)
class Choosy(Target):
    speed: str = "slow"
    name = "choosy"
    summary = "for this test"
    choices = (Choice(name="speed", values={"slow": "cheap", "quick": "dear"}, default="slow"),)

    @property
    def numbers(self):
        return Numbers()

    @property
    def options(self):
        return {"speed": self.speed}

    def configured(self, options):
        return Choosy(**checked_options(self, options))

    def issues(self, program):
        return ()

    def emit(self, program, directory):
        return {}

    def execute(self, program, directory, codes, *, raster, progress=None):
        raise AssertionError("never runs")

TARGET = Choosy()
"""


@pytest.fixture
def choosy(offered, plugin):
    plugin("choosy_plugin", CHOOSY)
    offered(("choosy", "choosy_plugin:TARGET"))


@pytest.mark.usefixtures("choosy")
def test_a_target_takes_the_choices_it_offers():
    assert registry.load("choosy").options == {"speed": "slow"}
    assert registry.load("choosy", {"speed": "quick"}).options == {"speed": "quick"}


@pytest.mark.usefixtures("choosy")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"spede": "slow"}, "no option of target 'choosy' named 'spede'; did you mean 'speed'"),
        ({"speed": "quik"}, "no value of option 'speed' of target 'choosy' named 'quik'"),
    ],
)
def test_what_a_target_does_not_offer_is_refused(options, message):
    with pytest.raises(UnknownName, match=message):
        registry.load("choosy", options)


def test_a_target_without_choices_refuses_all_of_them():
    with pytest.raises(UnknownName, match="no option of target 'reference' named 'image'"):
        registry.load("reference", {"image": "bias"})


def test_our_own_exporter_is_installed():
    exporter = registry.load_exporter("netx")
    assert (exporter.name, "netx" in exporter.summary) == ("netx", True)


@pytest.mark.parametrize(
    ("place", "problem"),
    [
        ("a_module_that_does_not_exist:E", "'sound' needs 'a_module_that_does_not_exist'; install"),
        ("broken_plugin:E", r"breaks while loading \(RuntimeError: no licence\)"),
        ("odd_plugin:E", "odd_plugin:E is int, not an Exporter"),
    ],
)
def test_an_exporter_that_does_not_load_is_a_deliberate_error(offered, plugin, place, problem):
    plugin("broken_plugin", "raise RuntimeError('no licence')\n")
    plugin("odd_plugin", "E = 3\n")
    offered(("sound", place))
    with pytest.raises(TargetFailedToLoad, match=problem):
        registry.load_exporter("sound")


def test_a_misspelt_format_gets_a_suggestion(offered):
    offered(("netx", "snnc_targets.netx:EXPORTER"))
    with pytest.raises(UnknownName, match="no format named 'netxx'; did you mean 'netx'"):
        registry.load_exporter("netxx")
