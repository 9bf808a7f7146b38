"""What a reader of an estimate gets: JSON with every number, its source and what is missing."""

from __future__ import annotations

from dataclasses import asdict

from snnc.energy.breakeven import RATE_AT_5_STEPS, SPIKES_PER_NEURON, break_even
from snnc.energy.charge import Band, Complete, Partial, Result, Unpriced
from snnc.energy.estimate import AbsentBaseline, Baseline, Estimate
from snnc.energy.prices import Evidence, Price, Unpublished
from snnc.energy.quantity import Term
from snnc.energy.record import counts_to_json
from snnc.errors import unreachable


def to_json(estimate: Estimate) -> dict[str, object]:
    """Return an estimate as JSON values, complete enough to be priced again.

    The result is under `total`, or under `partial_sum` with the list `unpriced`; never both.
    """
    profile, counts = estimate.profile, estimate.counts
    return {
        "profile": profile.id,
        "title": profile.title,
        "scope": profile.scope.value,
        "equations": profile.equations.value,
        "unit": profile.unit.value,
        "node_nm": profile.node_nm,
        "voltage_v": profile.voltage_v,
        "weakest_evidence": _value(weakest_evidence(estimate)),
        **_result(estimate.result),
        "sampling": estimate.sampling and asdict(estimate.sampling),
        "parts": [{"part": part.value, **asdict(band)} for part, band in estimate.parts.items()],
        "items": [
            {
                "part": item.part.value,
                "term": item.term.value,
                "quantity": item.quantity.value,
                "where": item.where,
                "count": item.count,
                **asdict(item.energy),
            }
            for item in estimate.items
        ],
        "input": {
            "image_passes": estimate.image_passes.value,
            "once": estimate.input_once and asdict(estimate.input_once),
            "per_step": estimate.input_per_step and asdict(estimate.input_per_step),
        },
        "baselines": [_baseline(each, estimate) for each in estimate.baselines],
        "break_even": {
            **asdict(break_even(counts)),
            "claims": [asdict(SPIKES_PER_NEURON), asdict(RATE_AT_5_STEPS)],
        },
        "constants": [_constant(term, each) for term, each in profile.prices.items()],
        "sources": [
            {
                "key": key,
                "citation": source.citation,
                "doi": source.doi,
                "read": source.read.value,
                "note": source.note,
            }
            for key, source in profile.sources.items()
        ],
        "not_modeled": list(profile.not_modeled),
        "counts": counts_to_json(counts),
    }


def weakest_evidence(estimate: Estimate) -> Evidence | None:
    """Return the weakest evidence of the constants in the sum; None if the sum is empty."""
    order = list(Evidence)
    used = {item.term for item in estimate.items}
    prices = (estimate.profile.prices[term] for term in used)
    grades = [order.index(each.evidence) for each in prices if isinstance(each, Price)]
    return order[max(grades)] if grades else None


def _value(evidence: Evidence | None) -> str | None:
    return evidence.value if evidence else None


def _result(result: Result) -> dict[str, object]:
    match result:
        case Complete(total=band):
            return {"result": "complete", "total": asdict(band)}
        case Partial(sum=band, unpriced=unpriced):
            return {
                "result": "partial",
                "partial_sum": asdict(band),
                "unpriced": [_unpriced(each) for each in unpriced],
            }
        case _:
            unreachable(result)


def _unpriced(each: Unpriced) -> dict[str, object]:
    return {
        "part": each.part.value,
        "term": each.term.value,
        "quantity": each.quantity.value,
        "where": each.where,
        "count": each.count,
        "reason": each.reason,
    }


def _baseline(each: Baseline | AbsentBaseline, estimate: Estimate) -> dict[str, object]:
    arithmetic = estimate.profile.baseline
    head = {"name": each.name, "arithmetic": arithmetic and arithmetic.value}
    match each:
        case Baseline(macs=macs, energy=energy, tie_spikes_per_neuron=tie):
            return {
                **head,
                "macs": macs,
                **asdict(energy),
                "snn_over_ann": _ratio(estimate.result, energy),
                "tie_spikes_per_neuron": tie,
            }
        case AbsentBaseline(reason=reason):
            return {**head, "absent": reason}
        case _:
            unreachable(each)


def _ratio(result: Result, baseline: Band) -> float | None:
    """Return total / baseline; a partial sum gives no ratio."""
    if isinstance(result, Complete) and baseline.nominal:
        return result.total.nominal / baseline.nominal
    return None


def _constant(term: Term, each: Price | Unpublished) -> dict[str, object]:
    match each:
        case Unpublished(note=note):
            return {"term": term.value, "published": False, "note": note}
        case Price():
            return {
                "term": term.value,
                "published": True,
                **asdict(each),
                "evidence": each.evidence.value,
            }
        case _:
            unreachable(each)
