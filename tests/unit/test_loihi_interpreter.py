"""Finding and making the Python that runs Lava, with stand-ins for every interpreter."""

import json
import shutil
import stat
from dataclasses import replace
from pathlib import Path

import pytest
from snnc.errors import CannotWrite, MissingDependency
from snnc_targets.loihi import environment, interpreter
from snnc_targets.loihi.interpreter import INCOMPLETE, Places
from snnc_targets.loihi.target import TARGET

READY = {"python": [3, 10], "lava": "0.10.0"}
BARE = {"python": [3, 10], "problem": "ModuleNotFoundError: No module named 'lava'"}


def program(path: Path, script: str) -> Path:
    """Write an executable shell script."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n" + script)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def python(path: Path, report: dict[str, object]) -> Path:
    """Write a stand-in for Python that answers the probe with `report`."""
    return program(path, f"cat <<'END'\n{json.dumps(report)}\nEND\n")


def bare_python(path: Path, *, pip: str = "exit 0") -> Path:
    """Write a Python 3.10 without Lava that can make environments; `pip` is what pip does."""
    made = f"case \"$*\" in\n*pip*) {pip};;\n*) cat <<'END'\n{json.dumps(READY)}\nEND\n;;\nesac\n"
    return program(
        path,
        'case "$*" in\n'
        f'*venv*) mkdir -p "$3/bin"; cat > "$3/bin/python" <<\'VENV\'\n#!/bin/sh\n{made}VENV\n'
        'chmod +x "$3/bin/python";;\n'
        f"*) cat <<'END'\n{json.dumps(BARE)}\nEND\n;;\n"
        "esac\n",
    )


@pytest.fixture
def places(tmp_path):
    """Places with an empty home; the PATH holds only what the stand-in scripts themselves need."""
    (tmp_path / "bin").mkdir()
    for tool in ("cat", "chmod", "mkdir"):
        (tmp_path / "bin" / tool).symlink_to(shutil.which(tool))
    return Places(environ={"PATH": str(tmp_path / "bin")}, home=tmp_path / "home", this=None)


def having(places: Places, **variables: str) -> Places:
    return replace(places, environ={**places.environ, **variables})


def test_nothing_found_says_what_to_do(places, tmp_path):
    with pytest.raises(MissingDependency, match="make one with: snnc lava setup"):
        interpreter.find(places)


def test_the_variable_comes_first(places, tmp_path):
    chosen = python(tmp_path / "chosen", READY)
    python(tmp_path / "bin" / "python3.10", READY)
    assert interpreter.find(having(places, SNNC_LAVA_PYTHON=str(chosen))) == chosen


@pytest.mark.parametrize(
    ("report", "problem"),
    [
        ({"python": [3, 11], "lava": "0.10.0"}, "is Python 3.11, Lava needs 3.10"),
        (BARE, "cannot import Lava: ModuleNotFoundError"),
        ({"python": [3, 10], "lava": "0.9.0"}, "has lava-nc 0.9.0, snnc emits for 0.10.0"),
    ],
)
def test_the_variable_set_to_something_unusable_is_an_error_not_a_hint(
    places, tmp_path, report, problem
):
    python(tmp_path / "bin" / "python3.10", READY)  # would do, but was not asked for
    wrong = python(tmp_path / "wrong", report)
    with pytest.raises(MissingDependency, match=problem):
        interpreter.find(having(places, SNNC_LAVA_PYTHON=str(wrong)))


def test_the_variable_may_name_nothing_at_all(places, tmp_path):
    with pytest.raises(MissingDependency, match="cannot be run: No such file"):
        interpreter.find(having(places, SNNC_LAVA_PYTHON=str(tmp_path / "absent")))


def test_candidates_are_tried_in_the_documented_order(places, tmp_path):
    places = having(
        places, PYENV_ROOT=str(tmp_path / "pyenv"), XDG_CACHE_HOME=str(tmp_path / "cache")
    )
    python(places.managed / "bin" / "python", BARE)
    python(tmp_path / "bin" / "python3.10", BARE)
    python(tmp_path / "pyenv" / "versions" / "3.10.2" / "bin" / "python", BARE)
    python(tmp_path / "pyenv" / "versions" / "3.11.2" / "bin" / "python", READY)
    uv = python(tmp_path / "uv310", BARE)
    program(tmp_path / "bin" / "uv", f"echo {uv}")
    envs = {"envs": [str(tmp_path / "conda310"), str(tmp_path / "conda311")]}
    program(tmp_path / "bin" / "conda", f"cat <<'END'\n{json.dumps(envs)}\nEND\n")
    python(tmp_path / "conda310" / "bin" / "python3.10", READY)
    (tmp_path / "conda311").mkdir()
    places = replace(places, this=python(tmp_path / "this", BARE))
    assert [answer.place for answer in interpreter.answers(places)] == [
        "this Python",
        "snnc lava setup",
        "PATH",
        "pyenv",
        "uv",
        "conda",
    ]
    assert interpreter.find(places) == tmp_path / "conda310" / "bin" / "python3.10"


def test_a_place_that_fails_is_reported_and_passed_over(places, tmp_path):
    program(tmp_path / "bin" / "uv", "echo 'error: broken shim' >&2; exit 2")
    program(tmp_path / "bin" / "conda", "echo not json")
    program(
        tmp_path / "bin" / "python3.10", "echo 'pyenv: python3.10: command not found' >&2; exit 1"
    )
    tried = [str(answer) for answer in interpreter.answers(places)]
    assert any(line.startswith("PATH") and "pyenv: python3.10: command" in line for line in tried)
    assert "uv: failed: error: broken shim" in tried
    program(tmp_path / "bin" / "uv", "kill -9 $$")
    assert "uv: ended with SIGKILL" in [str(answer) for answer in interpreter.answers(places)]
    assert "conda: `conda env list --json` printed something else" in tried


def test_variables_of_this_python_do_not_reach_the_other_one(places):
    inside = having(places, PYTHONPATH="/x", VIRTUAL_ENV="/y", PYTHONHOME="/z", PIP_INDEX_URL="u")
    assert set(inside.child_environ()) == {*places.environ, "PIP_INDEX_URL"}


def test_the_managed_place_honours_the_cache_directory(places, tmp_path):
    assert places.managed == tmp_path / "home" / ".cache" / "snnc" / "lava-3.10"
    moved = having(places, XDG_CACHE_HOME="/cache")
    assert moved.managed == Path("/cache/snnc/lava-3.10")
    assert having(places, XDG_CACHE_HOME="relative").managed == places.managed


def test_setup_makes_an_environment_once(places, tmp_path):
    bare_python(tmp_path / "bin" / "python3.10")
    said: list[str] = []
    made = environment.setup(places, said.append)
    assert made == places.managed / "bin" / "python"
    assert interpreter.find(places) == made
    assert not (places.managed / INCOMPLETE).exists()
    assert any("installing lava-nc 0.10.0" in line for line in said)
    again: list[str] = []
    assert environment.setup(places, again.append) == made
    assert again == []


def test_setup_does_not_trust_an_interrupted_one(places, tmp_path):
    bare_python(tmp_path / "bin" / "python3.10")
    python(places.managed / "bin" / "python", READY)
    (places.managed / INCOMPLETE).touch()
    assert "snnc lava setup" in str(next(interpreter.answers(places)))
    assert "was interrupted; run it again" in str(next(interpreter.answers(places)))
    said: list[str] = []
    environment.setup(places, said.append)
    assert said != []


def test_setup_without_a_python_310_says_how_to_get_one(places, tmp_path):
    with pytest.raises(MissingDependency, match=r"pyenv install 3.10(.|\n)*uv python install 3.10"):
        environment.setup(places, lambda line: None)
    assert not places.managed.exists()


def test_setup_that_fails_shows_pips_error_and_leaves_nothing(places, tmp_path):
    bare_python(
        tmp_path / "bin" / "python3.10",
        pip="echo 'ERROR: No matching distribution found'; echo 'WARNING: old pip'; exit 1",
    )
    with pytest.raises(MissingDependency, match="ERROR: No matching distribution found"):
        environment.setup(places, lambda line: None)
    assert not places.managed.exists()


def test_setup_that_is_interrupted_leaves_nothing(places, tmp_path):
    bare_python(tmp_path / "bin" / "python3.10")

    def interrupt(line):
        if line.startswith("installing"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        environment.setup(places, interrupt)
    assert not places.managed.exists()


def test_setup_reports_a_cache_that_cannot_be_written(places, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(CannotWrite, match="XDG_CACHE_HOME"):
        environment.setup(having(places, XDG_CACHE_HOME=str(tmp_path / "file")), lambda line: None)


def test_the_doctor_sums_up_first_and_lists_all_it_tried(tmp_path, monkeypatch):
    monkeypatch.setenv("SNNC_LAVA_PYTHON", str(python(tmp_path / "wrong", BARE)))
    summary, tried = TARGET.doctor()
    assert not summary.ok
    assert summary.remedy.startswith("unset $SNNC_LAVA_PYTHON")
    assert (tried.name, tried.ok) == ("$SNNC_LAVA_PYTHON", False)
    assert "No module named 'lava'" in tried.detail
    monkeypatch.setenv("SNNC_LAVA_PYTHON", str(python(tmp_path / "right", READY)))
    assert TARGET.doctor()[0].ok


def newer_python(path: Path, report: dict[str, object]) -> Path:
    """Write a stand-in for a newer Python, which has Lava only through the program given to -P."""
    plain = json.dumps({"python": report["python"], "problem": "ValueError: mutable default"})
    return program(
        path,
        f"case \"$*\" in\n*newer_python.py*) cat <<'END'\n{json.dumps(report)}\nEND\n;;\n"
        f"*) cat <<'END'\n{plain}\nEND\n;;\nesac\n",
    )


NEWER = {"python": [3, 12], "lava": "0.10.0"}


def test_models_run_on_python_310_where_there_is_one(places, tmp_path):
    found = python(tmp_path / "bin" / "python3.10", READY)
    both = replace(places, newer=newer_python(tmp_path / "this", NEWER))
    chosen = interpreter.find_for_models(both)
    assert chosen.command == (str(found),)
    assert str(chosen) == f"Python 3.10 ({found})"


def test_models_run_on_this_newer_python_if_it_has_lava(places, tmp_path):
    this = newer_python(tmp_path / "this", NEWER)
    chosen = interpreter.find_for_models(replace(places, newer=this))
    assert chosen.version == (3, 12)
    assert chosen.command == (str(this), "-P", str(interpreter.NEWER))
    with pytest.raises(MissingDependency, match="no Python 3.10 with lava-nc"):
        interpreter.find(replace(places, newer=this))


def test_the_variable_may_name_a_newer_python_for_models_only(places, tmp_path):
    chosen = newer_python(tmp_path / "chosen", NEWER)
    asked = having(places, SNNC_LAVA_PYTHON=str(chosen))
    assert interpreter.find_for_models(asked).python == chosen
    with pytest.raises(MissingDependency, match=r"is Python 3.12, Lava needs 3.10"):
        interpreter.find(asked)


@pytest.mark.parametrize(
    ("report", "problem"),
    [
        ({"python": [3, 12], "problem": "ModuleNotFoundError: lava"}, "ModuleNotFoundError: lava"),
        ({"python": [3, 12], "lava": "0.11.0"}, "has lava-nc 0.11.0, snnc emits for 0.10.0"),
        ({"python": [3, 9], "lava": "0.10.0"}, "is not newer than Python 3.10"),
    ],
)
def test_a_newer_python_that_cannot_is_listed(places, tmp_path, report, problem):
    this = newer_python(tmp_path / "this", report)
    with pytest.raises(MissingDependency, match=rf"for inproc, {this}: .*{problem}"):
        interpreter.find_for_models(replace(places, newer=this))
