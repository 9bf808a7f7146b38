"""Tables of a network, its rounding and its activity, as JSON for metrics.json (schema 1)."""

from __future__ import annotations

from math import prod

from snnc.ir.graph import Conv2d, Fire, Graph, Linear, consumers
from snnc.ir.program import Program
from snnc.ir.weights import nonzeros
from snnc.passes.rounding import roundings
from snnc.simulate.trace import Trace


def model_summary(graph: Graph) -> dict[str, object]:
    """Count the weights of each layer, and name the threshold they are compared with."""
    layers = [
        {
            "name": node.name,
            "weights": prod(node.op.weight.shape),
            "nonzero": nonzeros(node.op.weight),
            "threshold": _threshold(graph, node.name),
        }
        for node in graph.nodes
        if isinstance(node.op, Conv2d | Linear)
    ]
    weights = sum(prod(n.op.weight.shape) for n in graph.nodes if isinstance(n.op, Conv2d | Linear))
    kept = sum(nonzeros(n.op.weight) for n in graph.nodes if isinstance(n.op, Conv2d | Linear))
    return {
        "weights": weights,
        "nonzero": kept,
        "sparsity": 1.0 - kept / weights,
        "steps": graph.steps,
        "layers": layers,
    }


def _threshold(graph: Graph, name: str) -> float | None:
    """Return the single threshold that node `name` feeds; None if there is none, or several."""
    (reader, *_) = consumers(graph)[name]
    while consumers(graph)[reader.name]:
        if isinstance(reader.op, Fire):
            return float(reader.op.threshold) if reader.op.threshold.size == 1 else None
        if isinstance(reader.op, Conv2d | Linear):
            return None
        (reader, *_) = consumers(graph)[reader.name]
    return None


def quantization_summary(prepared: Graph, program: Program) -> dict[str, object]:
    """Say what rounding did to each bundle of synapses."""
    return {
        "layers": [
            {
                "name": each.name,
                "weight_bits": each.weight_bits,
                "scale": each.scale,
                "threshold": each.threshold,
                "largest_weight": each.largest_weight,
                "saturated": each.saturated,
                "rounded_to_zero": each.rounded_to_zero,
            }
            for each in roundings(prepared, program)
        ]
    }


def activity_summary(program: Program, trace: Trace) -> dict[str, object]:
    """Give the mean activity of one sample, layer by layer and synapse by synapse."""
    bundles = {(p.name, b.name): b for p in program.populations for b in p.synapses}
    return {
        "samples": trace.samples,
        "layers": [
            {
                "name": layer.name,
                "neurons": layer.neurons,
                "spikes_per_sample": float(layer.spikes.sum(axis=1).mean()),
                "spikes_per_neuron": float(layer.spikes.sum(axis=1).mean()) / layer.neurons,
                "per_step": [float(spikes) for spikes in layer.spikes.mean(axis=0)],
            }
            for layer in trace.layers
        ],
        "synapses": [
            {
                "name": bundle.name,
                "population": bundle.population,
                "source": bundle.source,
                "stored": nonzeros(bundles[bundle.population, bundle.name].weight),
                "events_per_sample": float(bundle.events.sum(axis=1).mean()),
            }
            for bundle in trace.synapses
        ],
    }
