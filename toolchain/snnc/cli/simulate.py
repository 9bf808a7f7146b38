"""snnc simulate."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from snnc.cli.output import emit, json_option, progress, table
from snnc.cli.sources import data_options, load_split, same_shape

if TYPE_CHECKING:
    from snnc.ir.weights import IntArray
    from snnc.simulate.trace import Trace
    from snnc.targets.build import Build

ENGINES = ("fast", "numpy", "torch", "lava", "target")


@click.command(epilog="Example: snnc simulate model-loihi --engine lava --samples 100 --json")
@click.argument("build", type=click.Path(path_type=Path))
@click.option(
    "--engine",
    default="fast",
    show_default=True,
    help="fast, numpy or torch (host, all exact); lava (builds for loihi) or target: what the "
    "build was made for, compared with the numpy reference spike for spike.",
)
@data_options
@json_option
def simulate(
    build: Path,
    engine: str,
    data_name: str,
    data_root: Path | None,
    split: str,
    samples: int | None,
    as_json: bool,
) -> None:
    """Run the deployed integers of BUILD on a data set."""
    from snnc.errors import InvalidSetting, UnknownName
    from snnc.evaluate.statistics import proportion
    from snnc.semantics.encode import encode
    from snnc.targets.build import load_build

    if engine not in ENGINES:
        raise UnknownName("engine", engine, ENGINES)
    loaded = load_build(build)
    if engine == "lava" and loaded.target != "loihi":
        raise InvalidSetting(
            f"{build} was made for {loaded.target!r}; Lava runs builds for loihi: "
            "snnc compile MODEL --target loihi"
        )
    images = load_split(
        data_name,
        split=split,
        samples=samples,
        root=data_root,
        classes=loaded.graph.class_names,
    )
    same_shape(loaded.program.input.shape, images, data_name)
    codes = encode(loaded.program.input, images.images)
    begin = time.perf_counter()
    trace, agreement = _run(loaded, engine, codes)
    seconds = time.perf_counter() - begin
    right = proportion(trace.predictions == images.labels)
    spikes = [float(layer.spikes.sum()) / trace.samples for layer in trace.layers]
    rows = [
        (layer.name, layer.neurons, round(mean, 1), round(mean / layer.neurons, 3))
        for layer, mean in zip(trace.layers, spikes, strict=True)
    ]
    result: dict[str, object] = {
        "build": str(build),
        "target": loaded.target,
        "engine": engine,
        "data": data_name,
        "split": split,
        "samples": trace.samples,
        "steps": trace.steps,
        "seconds": seconds,
        "accuracy": right.to_json(),
        "layers": [
            {
                "name": layer.name,
                "neurons": layer.neurons,
                "spikes_per_sample": mean,
                "spikes_per_neuron": mean / layer.neurons,
            }
            for layer, mean in zip(trace.layers, spikes, strict=True)
        ],
        "agreement": agreement,
        "hardware": "simulated, no neuromorphic hardware was used",
    }
    lines = [
        table(["layer", "neurons", "spikes per sample", "per neuron"], rows),
        f"{right.value:.1%} of {trace.samples} right "
        f"(95 % interval {right.low:.1%} to {right.high:.1%}); {engine} took {seconds:.1f} s",
    ]
    if agreement is not None:
        lines.append(f"agreement with the reference: {agreement['layers']}")
    emit(result, "\n".join(lines), as_json=as_json)


def _run(build: Build, engine: str, codes: IntArray) -> tuple[Trace, dict[str, object] | None]:
    """Run on an engine; compare a target's spikes with the numpy reference's."""
    from snnc.api import ENGINES as HOST
    from snnc.errors import TargetFailed
    from snnc.evaluate.agreement import agreement
    from snnc.simulate import reference
    from snnc.targets import registry

    if engine in HOST:
        return HOST[engine](build.program, codes, raster=False), None
    target = registry.load(build.target)
    with progress(f"{build.target}, samples") as advance:
        trace = target.execute(build.program, build.directory, codes, raster=True, progress=advance)
    compared = agreement(reference.run(build.program, codes, raster=True), trace)
    if not compared.exact:
        raise TargetFailed(
            f"{build.target} differs from the reference: {compared.first or 'logits differ'}; "
            "this is a fault of the target or of snnc, please report it with the build"
        )
    return trace, compared.to_json()
