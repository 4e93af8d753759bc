"""What a seed draws, and the shipped files."""

from pathlib import Path

import numpy as np
import pytest

from salus_ros.assets import asset
from salus_ros.errors import SalusError
from salus_ros.mixture import FamilyShare, Mixture
from salus_ros.sim.disturbances import FAMILIES, HELD_OUT
from salus_ros.sim.tasks import TASKS


def shipped(name: str) -> Mixture:
    return Mixture.read(asset(f"config/mixtures/{name}.yaml"))


def test_a_seed_alone_decides_what_its_episode_is() -> None:
    mixture = Mixture.of(disturbance="nudge", disturbed_share=0.7, intervention_share=0.2)
    metas = [mixture.draw(seed) for seed in range(1000)]
    assert metas == [mixture.draw(seed) for seed in range(1000)]
    assert np.mean([meta.disturbance.startswith("nudge:") for meta in metas]) == pytest.approx(0.7, abs=0.05)
    assert np.mean([meta.random_interventions for meta in metas]) == pytest.approx(0.2, abs=0.05)
    fewer = mixture.model_copy(update={"intervention_share": 0.1})
    kept = [a.disturbance == fewer.draw(a.seed).disturbance for a in metas]
    assert all(kept), "another share of interventions changes no disturbance"


def test_tasks_families_and_strengths_are_drawn_by_their_weights_and_ranges() -> None:
    mixture = Mixture(
        tasks={"stack": 1, "bin": 3},
        disturbed_share=1.0,
        families={"blur": FamilyShare(weight=4, strength=(0.5, 0.6)), "lag": FamilyShare()},
    )
    metas = [mixture.draw(seed) for seed in range(1000)]
    assert np.mean([meta.task == "bin" for meta in metas]) == pytest.approx(0.75, abs=0.05)
    blurred = [float(m.disturbance.split(":")[1]) for m in metas if m.disturbance.startswith("blur:")]
    assert len(blurred) == pytest.approx(800, abs=50)
    assert 0.5 <= min(blurred) < 0.51 and 0.59 < max(blurred) <= 0.6


def test_a_disturbance_may_have_a_strength() -> None:
    mixture = Mixture.of("bin", "slippery:0.8", disturbed_share=1.0)
    assert {mixture.draw(seed).disturbance for seed in range(5)} == {"slippery:0.800"}


def test_the_hash_is_of_what_is_drawn() -> None:
    mixture = Mixture(tasks={"bin": 1, "stack": 2})
    turned = Mixture(tasks={"stack": 2, "bin": 1})
    assert mixture.hash == turned.hash and mixture.draw(3) == turned.draw(3)
    assert mixture.hash == mixture.model_copy(update={"intervention_share": 0.0}).hash
    assert mixture.hash != Mixture(tasks={"bin": 1, "stack": 3}).hash


def test_no_task_and_no_family_is_both_seen_and_unseen_and_none_is_forgotten() -> None:
    seen, unseen = shipped("seen"), shipped("unseen")
    assert not set(seen.tasks) & set(unseen.tasks) and not set(seen.families) & set(unseen.families)
    assert set(seen.tasks) | set(unseen.tasks) == set(TASKS)
    assert set(seen.families) | set(unseen.families) == set(FAMILIES)
    assert set(unseen.families) == set(HELD_OUT), "what `mixed` leaves out is what is unseen"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("tasks: [", "is no YAML"),
        ("tasks: {bin: 0}", "weight above 0"),
        ("tasks: {bin: 1}\nfamilies: {}", "families must name one family or more"),
        ("tasks: {bin: 1}\nfamilies: {blur: {strength: [0.5, 2]}}", "families.blur: .*range from 0 to 1"),
        ("task: bin", "task: Extra inputs are not permitted"),
        ("- 1", "valid dictionary"),
    ],
)
def test_a_file_that_is_no_mixture_is_named_with_what_is_wrong(
    tmp_path: Path, text: str, sentence: str
) -> None:
    path = tmp_path / "m.yaml"
    path.write_text(text)
    with pytest.raises(SalusError, match=sentence) as refused:
        Mixture.read(path)
    assert str(path) in str(refused.value)


def test_a_file_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(SalusError, match="cannot be read"):
        Mixture.read(tmp_path / "none.yaml")
