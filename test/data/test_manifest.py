"""A manifest tells whether a dataset that was collected again is the same."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from salus_ros.data.episode import Episode, Outcome
from salus_ros.data.manifest import compare, manifest_of, read_manifest, write_manifest
from salus_ros.data.store import Store, StoreSettings
from salus_ros.errors import SalusError

Make = Callable[..., Episode]


def store_of(path: Path, *episodes: Episode) -> Store:
    settings = StoreSettings(policy_hash="0123456789abcdef", mixture='{"task": "bin"}', code_version="1.2.3")
    with Store.create(path, settings) as store:
        for episode in episodes:
            store.append(episode)
    return Store.open(path)


def test_a_manifest_comes_back_from_its_file_in_the_order_of_seeds(
    tmp_path: Path, make_episode: Make
) -> None:
    manifest = manifest_of(
        store_of(tmp_path / "s", make_episode(3), make_episode(1)), "models/policy", "ab12"
    )
    write_manifest(manifest, tmp_path / "m.jsonl")
    read = read_manifest(tmp_path / "m.jsonl")
    assert read == manifest
    assert read.seeds == [1, 3]
    assert (read.header.policy, read.header.code_version) == ("models/policy", "1.2.3")
    assert len((tmp_path / "m.jsonl").read_text().splitlines()) == 3


def test_the_same_dataset_agrees_though_images_differ(tmp_path: Path, make_episode: Make) -> None:
    manifest = manifest_of(store_of(tmp_path / "s", make_episode(0), make_episode(1)), "policy", "ab12")
    again = store_of(tmp_path / "again", replace(make_episode(1), frames={}), make_episode(0))
    agreement = compare(manifest, again)
    assert agreement.complete and agreement.same == 2


def test_what_differs_is_told_by_seed(tmp_path: Path, make_episode: Make) -> None:
    manifest = manifest_of(
        store_of(tmp_path / "s", *(make_episode(seed) for seed in range(4))), "policy", "ab12"
    )
    longer = make_episode(1, duration_s=1.5)
    moved = replace(make_episode(0).events[1], stamp_s=0.71)
    other_event = replace(
        make_episode(0), events=(make_episode(0).events[0], moved, make_episode(0).events[2])
    )
    failed = replace(make_episode(2), meta=replace(make_episode(2).meta, outcome=Outcome.TIMEOUT))
    agreement = compare(manifest, store_of(tmp_path / "again", other_event, longer, failed))
    assert not agreement.complete
    assert (agreement.same, agreement.other_arrays) == (0, (0, 1))
    assert (agreement.other_outcome, agreement.missing) == ((2,), (3,))


def test_a_manifest_is_never_overwritten(tmp_path: Path, make_episode: Make) -> None:
    manifest = manifest_of(store_of(tmp_path / "s", make_episode(0)), "policy", "ab12")
    (tmp_path / "m.jsonl").write_text("precious")
    with pytest.raises(SalusError, match=r"m.jsonl exists already"):
        write_manifest(manifest, tmp_path / "m.jsonl")
    assert (tmp_path / "m.jsonl").read_text() == "precious"


def test_what_is_no_manifest_is_named(tmp_path: Path, make_episode: Make) -> None:
    path = tmp_path / "m.jsonl"
    with pytest.raises(SalusError, match="is no manifest"):
        read_manifest(path)
    path.write_text("seeds: 3\n")
    with pytest.raises(SalusError, match="is no manifest"):
        read_manifest(path)
    path.write_text('{"salus_manifest": 7}\n')
    with pytest.raises(SalusError, match="manifest version 7, and this version of SALUS reads 1"):
        read_manifest(path)
    path.unlink()
    write_manifest(manifest_of(store_of(tmp_path / "s", make_episode(0)), "policy", "ab12"), path)
    first, second = path.read_text().splitlines()
    path.write_text(f"{first}\n{second.replace('seed', 'sead')}\n")
    with pytest.raises(SalusError, match=r"Line 2 of .*m.jsonl is damaged"):
        read_manifest(path)
    path.write_text(json.dumps(json.loads(first) | {"policy": 3}) + "\n")
    with pytest.raises(SalusError, match=r"Line 1 of .*m.jsonl is damaged"):
        read_manifest(path)
