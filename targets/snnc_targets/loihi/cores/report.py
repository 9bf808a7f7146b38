"""What a partition says to people and to programs: cores, chips, memory, and a certificate."""

from __future__ import annotations

from snnc.ir.weights import Shape

from snnc_targets.loihi.cores.chip import Chip, Constant, Evidence, Known, Resource
from snnc_targets.loihi.cores.cut import Cut, share
from snnc_targets.loihi.cores.partition import Partition
from snnc_targets.loihi.cores.words import Encoding

IN_SAMPLE = (
    "Intel publishes no limits of a Loihi 2 core. Two models were fitted to the tables that its "
    "compiler printed in public notebooks (12,000 words of 128 bits; 16,000 words of 64 bits), "
    "both on the tables that they explain. This is the second: it reproduces the core counts of "
    "PilotNet and YOLO-KP; nothing tested it on another network or on a chip."
)
BY_SEARCH = (
    "Loihi 1's limits are public; the search is ours. Synapses of a convolution are stored for "
    "each source neuron: Intel's NxTF shares some of them, so it may need fewer cores."
)


STATEMENT = {"loihi1": BY_SEARCH, "loihi2": IN_SAMPLE}


def report(found: Partition) -> dict[str, object]:
    """Return a partition as JSON."""
    chip = found.chip
    return {
        "chip": chip.name,
        "statement": STATEMENT[chip.name],
        "cores": found.cores,
        "cores_per_chip": chip.constant(Constant.CORES_PER_CHIP),
        "chips": found.chips,
        "fits": not found.issues,
        "issues": [vars(issue) for issue in found.issues],
        "layers": [_layer(chip, cut) for cut in found.cuts],
        "sparsity": _sparsity(found),
        "certificate": [_limit(found, resource) for resource in chip.limits],
        "constants": [
            {"name": each.value, **_provenance(known)} for each, known in chip.constants.items()
        ],
        "weakest_evidence": _weakest(chip).value,
    }


def _layer(chip: Chip, cut: Cut) -> dict[str, object]:
    binding = cut.binding(chip)
    return {
        "name": cut.name,
        "shape": list(_plain(cut.shape)),
        "tile": list(_plain(cut.tile)),
        "cores": len(cut.cores),
        "neurons": cut.neurons,
        "stored": [
            {
                "name": bundle.name,
                "encoding": encoding.value,
                "weights": bundle.used.size,
                "nonzero": int(bundle.used.sum()),
                "bits": bundle.signed_bits if encoding is Encoding.CONV else bundle.stored_bits,
            }
            for bundle, encoding in zip(cut.wirings, cut.encodings, strict=True)
        ],
        "synapse_words": cut.words,
        "synapse_words_with_zeros": cut.kept_words,
        "cores_with_zeros": cut.kept_cores,
        "largest": {each.value: cut.largest(each) for each in chip.limits},
        "binding": binding.value,
        "binding_share": round(share(chip, binding, cut.largest(binding)), 4),
        "utilisation": round(cut.utilisation(chip), 4),
    }


def _plain(shape: Shape) -> Shape:
    return shape if shape[1:] != (1, 1) else shape[:1]


def _sparsity(found: Partition) -> dict[str, object]:
    """Return what leaving zeros out saved, and where zeros are stored all the same."""
    zeros = [
        {"layer": cut.name, "name": bundle.name, "zeros": bundle.used.size - int(bundle.used.sum())}
        for cut in found.cuts
        for bundle, encoding in zip(cut.wirings, cut.encodings, strict=True)
        if encoding in (Encoding.DENSE, Encoding.CONV) and not bundle.used.all()
    ]
    return {
        "synapse_words": sum(cut.words for cut in found.cuts),
        "synapse_words_with_zeros": sum(cut.kept_words for cut in found.cuts),
        "cores": found.cores,
        "cores_with_zeros": sum(cut.kept_cores for cut in found.cuts),
        "zeros_stored": zeros,
    }


def _limit(found: Partition, resource: Resource) -> dict[str, object]:
    fullest = found.fullest(resource)
    used = fullest.largest(resource)
    return {
        "resource": resource.value,
        "used": used,
        "layer": fullest.name,
        "share": round(share(found.chip, resource, used), 4),
        **_provenance(found.chip.limits[resource]),
    }


def _provenance(known: Known) -> dict[str, object]:
    return {
        "value": known.value,
        "unit": known.unit,
        "evidence": known.evidence.value,
        "source": known.source,
        "locator": known.locator,
        **({"note": known.note} if known.note else {}),
    }


def _weakest(chip: Chip) -> Evidence:
    """Return the weakest evidence among the numbers of a chip."""
    order = list(Evidence)
    known = [*chip.limits.values(), *chip.constants.values()]
    return max((each.evidence for each in known), key=order.index)
