"""snnc energy."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from snnc.cli.output import emit, json_option, note
from snnc.cli.sources import (
    data_options,
    load_network,
    load_split,
    same_network,
    same_shape,
    trust_option,
)

if TYPE_CHECKING:
    from snnc.energy.charge import Band
    from snnc.energy.estimate import Estimate
    from snnc.targets.api import Target
    from snnc.targets.build import Build


@click.command(
    epilog="Example: snnc energy model-loihi --ann run/checkpoints/03-recover.pt "
    "--profile loihi1-davies2018"
)
@click.argument("build", type=click.Path(path_type=Path))
@click.option(
    "--profile",
    "profiles",
    multiple=True,
    help="A profile's name or file; repeatable.  [default: all that ship with snnc]",
)
@click.option(
    "--ann",
    type=click.Path(path_type=Path),
    help="The ordinary network (.pt or .snn) to compare with; its zeros are then counted too.",
)
@trust_option
@data_options
@json_option
def energy(
    build: Path,
    profiles: tuple[str, ...],
    ann: Path | None,
    trust: bool,
    data_name: str,
    data_root: Path | None,
    split: str,
    samples: int | None,
    as_json: bool,
) -> None:
    """Price what the deployed integers of BUILD do: estimates, nothing was measured."""
    from snnc.energy.ann import ann_counts, ann_counts_of_program
    from snnc.energy.count import count
    from snnc.energy.estimate import estimate
    from snnc.energy.lowering import Lowers
    from snnc.energy.profiles import load_profile, names
    from snnc.energy.record import counts_to_json
    from snnc.energy.report import to_json
    from snnc.energy.routing import KnowsRouting, spikes_of
    from snnc.semantics.encode import encode
    from snnc.simulate import fast
    from snnc.simulate.floating import activations
    from snnc.targets.build import load_build

    chosen = [load_profile(name) for name in profiles or names()]
    loaded = load_build(build)
    program = loaded.program
    images = load_split(
        data_name,
        split=split,
        samples=samples,
        root=data_root,
        classes=loaded.program.class_names,
    )
    same_shape(program.input.shape, images, data_name)
    if ann is None:
        baseline = ann_counts_of_program(program)
    else:
        graph = load_network(ann, trust=trust)
        same_network(graph, loaded.graph, ann)
        baseline = ann_counts(graph, [activations(graph, images.images)])
    target = _installed(loaded)
    placed: KnowsRouting | None = target if isinstance(target, KnowsRouting) else None
    codes = encode(program.input, images.images)
    trace = fast.run(program, codes, raster=placed is not None)
    lowers: Lowers | None = target if isinstance(target, Lowers) else None
    counts = count(
        program,
        trace,
        ann=baseline,
        encodings={} if lowers is None else lowers.encodings(program),
        image_every_step=lowers is not None and lowers.image_every_step,
    )
    if placed is not None:
        counts = replace(counts, routing=placed.routing(program, spikes_of(trace)))
    estimates = [estimate(counts, profile) for profile in chosen]
    emit(
        {
            "build": str(build),
            "data": data_name,
            "split": split,
            "samples": trace.samples,
            "counts": counts_to_json(counts),
            "estimates": [to_json(each) for each in estimates],
        },
        "\n\n".join(_text(each) for each in estimates),
        as_json=as_json,
    )


def _installed(build: Build) -> Target | None:
    """Return the target of a build; None, and say so, if no installed package offers it."""
    from snnc.targets import registry

    if build.target not in registry.available():
        note(
            f"target {build.target!r} is not installed: hops stay unknown, and synapses are "
            "counted as the program stores them"
        )
        return None
    return registry.load(build.target, build.options)


def _text(estimate: Estimate) -> str:
    """Return one estimate for people: what it sums, what it lacks, what it compares with."""
    from snnc.energy.charge import Complete
    from snnc.energy.estimate import Baseline
    from snnc.energy.report import weakest_evidence

    profile, unit = estimate.profile, estimate.profile.unit.value
    grade = weakest_evidence(estimate)
    lines = [
        f"{profile.id}: {profile.title}",
        f"  scope {profile.scope.value}; weakest constant: {grade.value if grade else 'none used'}",
    ]
    result = estimate.result
    if isinstance(result, Complete):
        lines.append(f"  estimate {_band(result.total, unit)} for one inference")
    else:
        lines.append(f"  PARTIAL sum {_band(result.sum, unit)} for one inference; without a price:")
        lines += [
            f"    {each.part.value}, {each.quantity.value}: {each.reason}"
            for each in result.unpriced
        ]
    lines += [f"    {part.value} {_band(band, unit)}" for part, band in estimate.parts.items()]
    lines += [
        f"  {each.name}: {_band(each.energy, unit)}"
        if isinstance(each, Baseline)
        else f"  {each.name}: absent, {each.reason}"
        for each in estimate.baselines
    ]
    lines.append(f"  not modelled: {', '.join(profile.not_modeled) or 'nothing'}")
    return "\n".join(lines)


def _band(band: Band, unit: str) -> str:
    return f"{band.nominal:.4g} [{band.low:.4g} to {band.high:.4g}] {unit}"
