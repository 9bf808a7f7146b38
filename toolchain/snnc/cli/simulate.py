"""snnc simulate."""

from __future__ import annotations

from pathlib import Path

import click

from snnc.cli.output import emit, json_option, progress, table
from snnc.cli.sources import data_options, load_split, same_shape


@click.command(epilog="Example: snnc simulate model-loihi --engine lava --samples 100 --json")
@click.argument("build", type=click.Path(path_type=Path))
@click.option(
    "--engine",
    default="fast",
    show_default=True,
    help="fast, numpy or torch: this computer, all exact. lava: Lava's runtime, every process "
    "one of the system, under Python 3.10; inproc: Lava's models in one process, the same "
    "integers sooner (both: builds for Loihi). target: what the build was made for. The last "
    "three are compared with fast (numpy without numba) on every spike.",
)
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    help="lava, inproc, target: run this many side by side, each a share of the samples. "
    "[default: inproc one for each core, lava one for each two, if there are 32 samples for it]",
)
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="lava, inproc, target: give up after so long without one more finished sample. "
    "[default: 600]",
)
@data_options
@json_option
def simulate(
    build: Path,
    engine: str,
    workers: int | None,
    timeout: float | None,
    data_name: str,
    data_root: Path | None,
    split: str,
    samples: int | None,
    as_json: bool,
) -> None:
    """Run the deployed integers of BUILD on a data set."""
    from snnc.evaluate.execution import execution
    from snnc.evaluate.statistics import proportion
    from snnc.semantics.encode import encode
    from snnc.targets.build import load_build

    loaded = load_build(build)
    run = execution(loaded, engine, workers=workers, timeout=timeout)
    images = load_split(
        data_name,
        split=split,
        samples=samples,
        root=data_root,
        classes=loaded.program.class_names,
    )
    same_shape(loaded.program.input.shape, images, data_name)
    codes = encode(loaded.program.input, images.images)
    with progress(f"{loaded.target}, samples") as advance:
        ran = run(codes, advance)
    trace = ran.trace
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
        "seconds": ran.seconds,
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
        "agreement": ran.agreement,
        "reference": ran.reference,
        "interpreter": ran.outside.interpreter if ran.outside is not None else None,
        "workers": ran.outside.workers if ran.outside is not None else None,
        "hardware": "simulated, no neuromorphic hardware was used",
    }
    lines = [
        table(["layer", "neurons", "spikes per sample", "per neuron"], rows),
        f"{right.value:.1%} of {trace.samples} right "
        f"(95 % interval {right.low:.1%} to {right.high:.1%}); {engine} took {ran.seconds:.1f} s",
    ]
    if ran.outside is not None:
        several = "1 worker" if ran.outside.workers == 1 else f"{ran.outside.workers} workers"
        lines.append(f"{several} under {ran.outside.interpreter}")
    if ran.agreement is not None:
        lines.append(f"agreement with the reference ({ran.reference}): {ran.agreement['layers']}")
    emit(result, "\n".join(lines), as_json=as_json)
