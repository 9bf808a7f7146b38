"""Profiles: what ships is right, and what is wrong is refused with all its reasons."""

from pathlib import Path

import pytest
from snnc.energy.estimate import recompute
from snnc.energy.prices import Arithmetic, Price, Unpublished
from snnc.energy.profiles import InvalidProfile, load_profile, names
from snnc.energy.quantity import Equations, Scope, Term
from snnc.errors import InvalidFile, UnknownName

SHIPPED = ("cmos45-fp32-ops", "cmos45-int8-ops", "loihi1-davies2018", "loihi2-opsproxy")

MINIMAL = """
schema_version = 1
id = "mine"
title = "My chip"
scope = "arithmetic_only"
equations = "arithmetic"
unit = "J"
not_modeled = []

[accounting]
image_passes = "once"

[terms.e_ac]
value = 1e-12
low = 1e-12
high = 2e-12
unit = "J"
evidence = "measured"
source = "me"
locator = "page 1"

[terms.e_mac]
published = false
note = "nobody measured it"

[sources.me]
citation = "Me, today"
read = "primary"

[[validation]]
name = "two additions"
counts = { synaptic_dense = 2 }
expect = 2e-12
rtol = 1e-12
"""


@pytest.fixture
def written(tmp_path):
    def write(text):
        path = tmp_path / "mine.toml"
        path.write_text(text)
        return path

    return write


def refused(path):
    with pytest.raises(InvalidProfile) as caught:
        load_profile(path)
    return {issue.layer: issue for issue in caught.value.issues}


def test_four_profiles_ship():
    assert names() == SHIPPED


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_profile_recomputes_its_worked_examples(name):
    profile = load_profile(name)
    assert profile.id == name
    for case in profile.validation:
        got = recompute(case, profile).nominal
        assert got == pytest.approx(case.expect, rel=case.rtol), case.name  # as it says itself


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_price_has_a_quote_and_a_known_source(name):
    profile = load_profile(name)
    for price in profile.prices.values():
        if isinstance(price, Price):
            assert price.quote and price.locator
            assert price.source in profile.sources


@pytest.mark.parametrize(
    ("name", "prices"),
    [
        ("cmos45-fp32-ops", {"e_ac": (0.9, 0.9, 0.9), "e_mac": (4.6, 4.6, 4.6)}),
        ("cmos45-int8-ops", {"e_ac": (0.03, 0.03, 0.10), "e_mac": (0.23, 0.23, 0.30)}),
        (
            "loihi1-davies2018",
            {
                "e_synop": (23.6, 23.6, 35.5),
                "e_neuron_active": (81, 81, 81),
                "e_neuron_inactive": (52, 52, 52),
                "e_spike_intratile": (1.7, 1.7, 1.7),
                "e_hop_ew": (3.0, 3.0, 3.0),
                "e_hop_ns": (4.0, 4.0, 4.2),
                "p_static_chip": (0.1043e12, 0.1044e12, 0.1044e12),
            },
        ),
        (
            "loihi2-opsproxy",
            {"e_synop": (1e12,) * 3, "e_mac": (1e12,) * 3, "e_neuron": (10e12,) * 3},
        ),
    ],
)
def test_the_shipped_prices_are_those_of_the_sources(name, prices):
    # low, value, high in units of 1e-12: picojoules
    shipped = {
        term.value: (price.low, price.value, price.high)
        for term, price in load_profile(name).prices.items()
        if isinstance(price, Price)
    }
    assert shipped.keys() == prices.keys()
    for term, want in prices.items():
        assert shipped[term] == pytest.approx([each * 1e-12 for each in want], rel=1e-15), term


def test_what_nobody_published_is_not_zero():
    loihi = load_profile("loihi1-davies2018")
    assert isinstance(loihi.prices[Term.BARRIER], Unpublished)
    assert isinstance(loihi.prices[Term.MAC], Unpublished)


def test_loihi_2_has_no_joules():
    assert load_profile("loihi2-opsproxy").unit.value == "op"


def test_a_misspelt_profile_gets_a_suggestion():
    with pytest.raises(UnknownName) as caught:
        load_profile("loihi1-davis2018")
    assert str(caught.value) == (
        "no energy profile named 'loihi1-davis2018'; did you mean 'loihi1-davies2018'?"
    )


def test_a_users_profile_is_read_from_its_path(written):
    profile = load_profile(written(MINIMAL))
    assert (profile.id, profile.scope) == ("mine", Scope.ARITHMETIC_ONLY)
    assert profile.equations is Equations.ARITHMETIC
    assert profile.node_nm is None and profile.baseline is None
    assert profile.prices[Term.ADDITION].high == 2e-12


def test_the_example_of_the_user_guide_is_a_valid_profile(written):
    guide = (Path(__file__).parents[2] / "docs" / "energy.md").read_text()
    profile = load_profile(written(guide.split("```toml\n")[1].split("```")[0]))
    (case,) = profile.validation
    assert recompute(case, profile).nominal == case.expect
    assert isinstance(profile.prices[Term.MAC], Unpublished)


def test_a_missing_file_is_an_error_with_the_known_names():
    with pytest.raises(InvalidFile, match=r"cannot read energy profile .*nowhere\.toml: No such"):
        load_profile(Path("nowhere.toml"))


def test_a_file_that_is_not_toml_is_refused(written):
    with pytest.raises(InvalidFile, match="is not TOML"):
        load_profile(written("value = = 1"))


def test_a_binary_file_is_refused(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InvalidFile, match="is not TOML"):
        load_profile(path)


def test_all_problems_of_a_profile_are_listed_at_once(written):
    text = MINIMAL.replace('title = "My chip"', 'titel = "My chip"')
    text = text.replace("high = 2e-12", "high = 0.5e-12")
    text = text.replace('evidence = "measured"', 'evidence = "mesured"')
    text = text.replace('locator = "page 1"', "")
    text = text.replace("expect = 2e-12", "expect = true")
    issues = refused(written(text))
    assert issues.keys() == {
        "title",
        "titel",
        "terms.e_ac.value",
        "terms.e_ac.evidence",
        "terms.e_ac.locator",
        "validation[0].expect",
    }
    assert issues["titel"].remedy == "did you mean 'title'?"
    assert issues["terms.e_ac.evidence"].remedy == "did you mean 'measured'?"
    assert issues["terms.e_ac.value"].problem == "1e-12 is outside its band [1e-12, 5e-13]"


@pytest.mark.parametrize(
    ("old", "new", "place", "code"),
    [
        ('source = "me"', 'source = "you"', "terms.e_ac.source", "source"),
        ('source = "me"', "", "terms.e_ac.source", "missing"),
        ("value = 1e-12", "value = nan", "terms.e_ac.value", "range"),
        ("value = 1e-12", "value = -1.0", "terms.e_ac.value", "range"),
        ("value = 1e-12", "value = inf", "terms.e_ac.value", "range"),
        ("value = 1e-12", "value = '1'", "terms.e_ac.value", "type"),
        ("value = 1e-12", "value = true", "terms.e_ac.value", "type"),
        ('unit = "J"\nevidence', 'unit = "pJ"\nevidence', "terms.e_ac.unit", "unit"),
        ("schema_version = 1", "schema_version = 2", "schema_version", "version"),
        ('scope = "arithmetic_only"', 'scope = "per_term"', "scope", "scope"),
        ('scope = "arithmetic_only"', 'scope = "all"', "scope", "choice"),
        ("[terms.e_ac]", "[terms.e_acc]", "terms.e_acc", "unknown-key"),
        ("[terms.e_ac]", "[terms.e_acc]", "terms.e_ac", "missing"),
        ("[terms.e_ac]", "[terms.e_hop_ew]", "terms.e_hop_ew", "term"),
        ("published = false\n", "published = true\n", "terms.e_mac.published", "unknown-key"),
        ('note = "nobody measured it"', "", "terms.e_mac.note", "missing"),
        (
            "synaptic_dense = 2",
            "synaptic_dens = 2",
            "validation[0].counts.synaptic_dens",
            "unknown-key",
        ),
        ("not_modeled = []", "not_modeled = 3", "not_modeled", "type"),
        ("not_modeled = []", "not_modeled = [3]", "not_modeled", "type"),
        ('image_passes = "once"', 'image_passes = "twice"', "accounting.image_passes", "choice"),
        ('read = "primary"', "read = 1", "sources.me.read", "choice"),
        ('unit = "J"\nnot', 'unit = "J"\nbaseline = "fp32"\nnot', "baseline", "baseline"),
        ("[sources.me]", "[source.me]", "sources", "missing"),
        ("[[validation]]", "[validation]", "validation", "type"),
    ],
)
def test_a_profile_that_breaks_a_rule_names_the_place(written, old, new, place, code):
    assert old in MINIMAL
    issues = refused(written(MINIMAL.replace(old, new)))
    assert issues[place].code == code


def test_an_all_in_profile_may_not_price_what_its_price_contains(written):
    text = MINIMAL.replace("arithmetic_only", "all_in").replace('"arithmetic"', '"all_in"')
    text = text.replace("[terms.e_ac]", "[terms.e_synop]")
    assert load_profile(written(text)).scope is Scope.ALL_IN
    text += '\n[terms.p_static_chip]\npublished = false\nnote = "n"\n'
    issue = refused(written(text))["terms.p_static_chip"]
    assert issue.problem == "an all-in price contains it already"


def test_a_price_for_each_encoding_may_replace_the_common_one(written):
    event = load_profile("loihi1-davies2018")
    assert Term.SYNAPTIC in event.prices
    one = MINIMAL[MINIMAL.index("value =") : MINIMAL.index("[terms.e_mac]")]
    head = MINIMAL[: MINIMAL.index("[terms.e_ac]")]
    head = head.replace("arithmetic_only", "per_term").replace('"arithmetic"', '"event"')
    tail = MINIMAL[MINIMAL.index("[terms.e_mac]") :]
    rest = "".join(
        f'\n[terms.{term}]\npublished = false\nnote = "n"\n'
        for term in ("e_neuron_active", "e_neuron_inactive", "e_spike_intratile")
        + ("e_hop_ew", "e_hop_ns", "e_barrier", "p_static_chip")
    )
    kinds = ("dense", "sparse", "conv")
    three = "".join(f"[terms.e_synop_{kind}]\n{one}" for kind in kinds)
    profile = load_profile(written(head + three + tail + rest))
    assert Term.SYNAPTIC not in profile.prices
    two = three.replace(f"[terms.e_synop_conv]\n{one}", "")
    assert refused(written(head + two + tail + rest)).keys() == {"terms.e_synop"}


def test_the_arithmetic_profiles_can_price_an_ann():
    baselines = {name: load_profile(name).baseline for name in SHIPPED}
    assert baselines == {
        "cmos45-fp32-ops": Arithmetic.FP32,
        "cmos45-int8-ops": Arithmetic.INT8,
        "loihi1-davies2018": None,
        "loihi2-opsproxy": None,
    }
