"""``metrics.json``: every number of an evaluation, None where there is none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from salus_ros.evaluation.detectors import Compared
from salus_ros.evaluation.events import LEAD_TIMES_S, EventCounts
from salus_ros.evaluation.figures import Figures
from salus_ros.evaluation.protocol import Findings, TestSet
from salus_ros.evaluation.statistics import Estimate
from salus_ros.evaluation.timeouts import TimeoutMetrics, Warnings


def as_json(findings: Findings) -> dict[str, Any]:
    """All numbers, with None for what could not be computed."""
    return {
        "unavailable": dict(findings.unavailable),
        "episodes": dict(findings.episodes),
        "tests": {name: _test_json(test) for name, test in findings.tests.items()},
    }


def _test_json(test: TestSet) -> dict[str, Any]:
    return {
        "episodes": len(test.records),
        "failures": sum(r.failed for r in test.records),
        "onsets": {f.name.lower(): n for f, n in test.onsets.items()},
        "onsets_asked_for": {f.name.lower(): n for f, n in test.onsets_asked_for.items()},
        "common_length_s": number(test.common_length_s),
        "failures_begun_within_common_length": test.begun_within_common_length,
        "outside_training_data": {"episodes": test.outside[0], "of": test.outside[1]},
        "detectors": [_figures_json(figures, test.behind[figures.name]) for figures in test.figures],
    }


def number(value: float) -> float | None:
    """A JSON number, None where there is none."""
    return float(value) if np.isfinite(value) else None


def _estimate(estimate: Estimate) -> dict[str, float | None]:
    return {"value": number(estimate.value), "low": number(estimate.low), "high": number(estimate.high)}


def _figures_json(figures: Figures, behind: Mapping[Compared, Estimate]) -> dict[str, Any]:
    return {
        "name": figures.name,
        "kind": figures.kind,
        "trials_on_tune": figures.trials,
        "choice": {number.value: choice for number, choice in figures.choices.items()},
        "mean_auroc": _estimate(figures.mean_auroc),
        "ours_minus_this": {compared.value: _estimate(estimate) for compared, estimate in behind.items()},
        "steps": [
            {
                "type": failure.name.lower(),
                "horizon_s": horizon_s,
                "auroc": _estimate(m.auroc),
                "auprc": _estimate(m.auprc),
                "prevalence": number(m.prevalence),
                "brier": number(m.brier),
                "calibration_error": number(m.calibration_error),
                "positives": m.positives,
                "steps": m.steps,
            }
            for (failure, horizon_s), m in figures.steps.items()
        ],
        "event_f1_mean_over_types": _estimate(figures.mean_f1),
        "false_alarm_rate_as_deployed": _estimate(figures.false_alarms),
        "alarms_per_hour_as_deployed": number(figures.alarms_per_hour),
        "false_alarms_per_hour_as_deployed": number(figures.false_alarms_per_hour),
        "events": _events_json(figures.events),
        "events_by_type": {f.name.lower(): _events_json(c) for f, c in figures.events_by_type.items()},
        "episode_auroc": {f"{share:g}": _estimate(e) for share, e in figures.auroc_over_time.items()},
        "episode_alarms": [
            {
                "preset_false_alarm_rate": a.preset_false_alarm_rate,
                "threshold": number(a.threshold),
                "false_alarm_rate": _estimate(a.false_alarm_rate),
                "true_positive_rate": _estimate(a.true_positive_rate),
                "balanced_accuracy": number(a.balanced_accuracy),
                "time_weighted_accuracy": number(a.time_weighted_accuracy),
                "detection_time_s": number(a.detection_time_s),
                "alarms_per_hour": number(a.alarms_per_hour),
                "false_alarms_per_hour": number(a.false_alarms_per_hour),
            }
            for a in figures.alarms
        ],
        "timeouts": None if figures.timeouts is None else _timeouts_json(figures.timeouts),
    }


def _timeouts_json(timeouts: TimeoutMetrics) -> dict[str, Any]:
    return {
        "episodes": timeouts.episodes,
        "timed_out": timeouts.timed_out,
        "looks": [
            {
                "share_of_common_length": share,
                "auroc": _estimate(look.auroc),
                "auroc_now": _estimate(look.auroc_now),
                "brier": _estimate(look.brier),
                "brier_of_rate": number(look.brier_of_rate),
            }
            for share, look in timeouts.looks.items()
        ],
        "threshold": timeouts.threshold,
        "as_deployed": _warnings_json(timeouts.whole),
        "as_deployed_within_common_length": _warnings_json(timeouts.within_common_length),
    }


def _warnings_json(warnings: Warnings) -> dict[str, Any]:
    return {
        "precision": _estimate(warnings.precision),
        "recall": _estimate(warnings.recall),
        "false_alarm_rate": _estimate(warnings.false_alarm_rate),
        "lead_time_median_s": number(warnings.lead_time_s),
    }


def _events_json(counts: EventCounts) -> dict[str, Any]:
    return {
        "true_positives": counts.true_positives,
        "false_positives": counts.false_positives,
        "misses": counts.misses,
        "precision": number(counts.precision),
        "recall": number(counts.recall),
        "f1": number(counts.f1),
        "lead_time_median_s": number(counts.median_lead_time_s),
        "lead_time_p10_s": number(counts.lead_time_percentile_s(10.0)),
        "foreseen_at": {f"{lead:g}": number(counts.share_foreseen_at(lead)) for lead in LEAD_TIMES_S},
    }
