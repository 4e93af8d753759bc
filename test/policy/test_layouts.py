"""Every layout that the published code writes, and what is wrong with a broken one."""

from __future__ import annotations

import json
import pickle
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer

from salus_ros.cli.main import main
from salus_ros.policy.registry import load_policy
from salus_ros.policy.tinyvla import checkpoint

from .reference_cases import load_cases, of_case, write_backbone, write_case, write_lora_run
from .small import observation


@pytest.fixture(scope="module")
def stored():
    return load_cases()


@pytest.fixture(scope="module")
def originals(stored, tmp_path_factory):
    base = tmp_path_factory.mktemp("layouts")
    return {
        "whole": write_case(base / "whole", of_case(stored, "two_views")),
        "act": write_case(base / "act", of_case(stored, "act")),
        "lora": write_lora_run(base / "lora", stored),
        "backbone": write_backbone(base / "backbone", of_case(stored, "two_views")),
    }


@pytest.fixture
def copies(originals, tmp_path):
    return lambda kind: Path(shutil.copytree(originals[kind], tmp_path / kind))


def shard(folder: Path, suffix: str) -> None:
    """Split the weights over two files and an index."""
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(tensors)
    stem, ending = suffix.split(".")
    weight_map = {}
    for index, part in enumerate((names[:50], names[50:])):
        name = f"{stem}-0000{index + 1}-of-00002.{ending}"
        content = {key: tensors[key] for key in part}
        save_file(content, folder / name) if ending == "safetensors" else torch.save(content, folder / name)
        weight_map.update(dict.fromkeys(part, name))
    (folder / f"{suffix}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))


def as_bin(folder: Path) -> None:
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def as_run(folder: Path) -> None:
    """A run of the released trainer: weights in the newest of two steps."""
    for step in ("checkpoint-9", "checkpoint-100"):
        (folder / step).mkdir()
    (folder / "model.safetensors").rename(folder / "checkpoint-100" / "model.safetensors")


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (lambda folder: None, "whole checkpoint"),
        (lambda folder: shard(folder, "model.safetensors"), "whole checkpoint in 2 shards"),
        (lambda folder: shard(folder, "pytorch_model.bin"), "whole checkpoint in 2 shards"),
        (as_bin, "whole checkpoint"),
        (as_run, "whole checkpoint of step 100"),
    ],
    ids=["whole", "shards", "shards of pickles", "one pickle", "run"],
)
def test_every_whole_layout_holds_the_same(copies, originals, change, kind):
    folder = copies("whole")
    change(folder)
    loaded = checkpoint.load(folder)
    assert loaded.layout.kind == kind
    expected = checkpoint.load(originals["whole"]).model.state_dict()
    for name, tensor in loaded.model.state_dict().items():
        assert torch.equal(tensor, expected[name]), name


def test_a_published_checkpoint_moves_a_robot_once_cameras_and_period_are_said(originals):
    with pytest.raises(Exception, match=r"camera_names=front,wrist&action_period_s"):
        load_policy(originals["whole"])
    policy = load_policy(f"{originals['whole']}?camera_names=front,wrist&action_period_s=0.05")
    assert policy.action_period_s == 0.05


@pytest.mark.parametrize("kind", ["whole", "act", "lora"])
def test_a_published_checkpoint_plans_from_an_observation(originals, kind):
    spec = f"{originals[kind]}?camera_names=front,wrist&action_period_s=0.05&temporal_aggregation=true"
    policy = load_policy(spec)
    first, second = policy.act(observation(0.0)), policy.act(observation(0.2, seed=1))
    assert second.chunk.joint_position_rad.shape == (8, 7)
    assert np.isfinite(second.chunk.joint_position_rad).all()
    assert first.samples.shape == ((1, 1, 8, 10) if kind == "act" else (1, 4, 8, 10))
    uncertainty = second.uncertainty
    assert np.isnan(uncertainty.epistemic) and np.isnan(uncertainty.velocity_field_disagreement)
    assert np.isnan(uncertainty.aleatoric) == (kind == "act"), "the ACT head does not sample"
    assert uncertainty.overlap_divergence > 0


def test_collecting_with_a_backbone_is_refused_with_the_way_out(originals, tmp_path, capsys):
    arguments = ["--policy", str(originals["backbone"]), "--episodes", "1", "--output", str(tmp_path / "s")]
    assert main(["collect", *arguments]) == 2
    error = capsys.readouterr().err
    assert "no trained action head" in error and "salus train-policy --init-from" in error
    assert not (tmp_path / "s").exists(), "nothing was written"


def test_a_backbone_loads_as_one_and_not_as_a_policy(originals, capsys):
    assert checkpoint.load_backbone(originals["backbone"]).config.head is None
    code = main(["inspect", str(originals["backbone"])])
    printed = " ".join(capsys.readouterr().out.split())
    assert code == 2
    assert "action head none" in printed.replace("│", "").replace("  ", " ").replace("  ", " ")
    assert f"salus train-policy --init-from {originals['backbone']} --demos DATA --heads 5" in printed


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (
            "whole",
            (
                "diffusion, 8 steps of 10 numbers",
                "0.75 million: vision tower 0.03, projector 0.00, language model 0.03, heads 0.70",
                "CLIP 28 px",
                "3.0 MB in float32, 1.5 MB in 16 bits",
                "GPT-NeoX, 2 layers",
                "gives it four more heads",
            ),
        ),
        ("act", ("ACT, 8 steps", "no epistemic uncertainty", "trains diffusion heads on its backbone")),
        (
            "lora",
            ("LoRA fine-tune of step 20", "rank 4, alpha 16, on 26 linear layers", "dataset_stats.pkl"),
        ),
    ],
)
def test_inspect_says_what_it_is(originals, capsys, monkeypatch, kind, words):
    monkeypatch.setenv("COLUMNS", "200")
    code = main(["inspect", str(originals[kind])])
    printed = capsys.readouterr().out
    assert code == 0, "what the published format cannot say is not wrong"
    assert f"{originals[kind]}?camera_names=front,wrist&action_period_s=0.05" in printed
    for word in words:
        assert word in printed


def test_a_folder_that_is_almost_a_policy_and_a_file_of_one_are_told_from_what_is_none(copies, capsys):
    folder = copies("whole")
    assert main(["inspect", str(folder / "model.safetensors")]) == 2
    assert f"give the folder that holds it, {folder}" in capsys.readouterr().err
    (folder / "config.json").unlink()
    assert main(["inspect", str(folder)]) == 2
    assert "config.json is not in" in capsys.readouterr().err


class _Evil:
    def __reduce__(self):
        return Path.touch, (Path("evil_was_here"),)


def _edit(name: str, change: Callable[[dict], object]) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        path = next(folder.rglob(name))
        raw = json.loads(path.read_text())
        change(raw)
        path.write_text(json.dumps(raw))

    return edit


def _tensors(change: Callable[[dict], object]) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        tensors = load_file(folder / "model.safetensors")
        change(tensors)
        save_file(tensors, folder / "model.safetensors")

    return edit


def _write(name: str, content: bytes) -> Callable[[Path], None]:
    return lambda folder: next(folder.rglob(name)).write_bytes(content)


def _cut(name: str) -> Callable[[Path], None]:
    def cut(folder: Path) -> None:
        path = next(folder.rglob(name))
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])

    return cut


def _remove(name: str) -> Callable[[Path], None]:
    return lambda folder: next(folder.rglob(name)).unlink()


def _stats(**arrays: object) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        path = folder / "dataset_stats.pkl"
        values = pickle.loads(path.read_bytes())
        path.write_bytes(pickle.dumps({**values, **arrays}))

    return edit


def _another_word(folder: Path) -> None:
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.add_tokens([f"word{n}" for n in range(433 - tokenizer.get_vocab_size())])
    tokenizer.save(str(folder / "tokenizer.json"))


def _lost_shard(folder: Path) -> None:
    shard(folder, "model.safetensors")
    (folder / "model-00002-of-00002.safetensors").unlink()


def _shard_elsewhere(folder: Path) -> None:
    shard(folder, "model.safetensors")
    _edit("model.safetensors.index.json", lambda raw: raw["weight_map"].update(a="../b.safetensors"))(folder)


def _adapter(change: Callable[[dict, str], object]) -> Callable[[Path], None]:
    """Changes the adapter's tensors; the second argument is the name of the first factor A."""

    def edit(folder: Path) -> None:
        path = next(folder.rglob("adapter_model.bin"))
        tensors = torch.load(path, weights_only=True)
        change(tensors, min(name for name in tensors if ".lora_A." in name))
        torch.save(tensors, path)

    return edit


def _without_factor(letter: str) -> Callable[[Path], None]:
    return _adapter(lambda tensors, name: tensors.pop(name.replace("lora_A", f"lora_{letter}")))


def _added_to_adapter(name: str) -> Callable[[Path], None]:
    return _adapter(lambda tensors, _: tensors.update({f"base_model.model.{name}": torch.zeros(4)}))


def _factor_among_the_rest(folder: Path) -> None:
    path = next(folder.rglob("non_lora_trainables.bin"))
    tensors = torch.load(path, weights_only=True)
    torch.save({**tensors, "base_model.model.gpt_neox.a.lora_A.weight": torch.zeros(4)}, path)


def _config(**values: object) -> Callable[[Path], None]:
    return _edit("config.json", lambda raw: raw.update(values))


def _tower(**values: object) -> Callable[[Path], None]:
    return _edit("config.json", lambda raw: raw["vision_config"]["vision_tower"].update(values))


def _projector(**values: object) -> Callable[[Path], None]:
    return _edit("config.json", lambda raw: raw["vision_config"]["mm_projector"].update(values))


def _processor(**values: object) -> Callable[[Path], None]:
    return _edit("preprocessor_config.json", lambda raw: raw.update(values))


def _without(name: str, key: str) -> Callable[[Path], None]:
    return _edit(name, lambda raw: raw.pop(key))


FIRST_OF_UNET = "down_modules.0.0.blocks.0.block.0.weight"

BROKEN = {
    "no configuration": ("whole", _remove("config.json"), "config.json"),
    "configuration no JSON": ("whole", _write("config.json", b"{"), "cannot be read as JSON"),
    "configuration a list": ("whole", _write("config.json", b"[]"), "model_type"),
    "a key missing": ("whole", _without("config.json", "num_attention_heads"), "num_attention_heads"),
    "chunk size missing": ("whole", _without("config.json", "chunk_size"), "chunk_size"),
    "a chunk that never ends": ("whole", _config(chunk_size=10**12), "chunk_size"),
    "vision missing": ("whole", _without("config.json", "vision_config"), "vision_tower"),
    "a key of another type": ("whole", _config(hidden_size="x"), "hidden_size"),
    "a size that no memory has": ("whole", _config(vocab_size=10**12), r"expected \(1000000000000, 32\)"),
    "a size that no tensor can have": ("whole", _config(intermediate_size=10**18), "cannot be built"),
    "more layers than tensors": ("whole", _config(num_hidden_layers=10**9), "1000000000 layers, but"),
    "more members than tensors": (
        "whole", _config(salus={"members": 10**9}), "1000000000 members, but"
    ),
    "a projector of too many layers": (
        "whole", _projector(mm_projector_type="mlp999999x_gelu"), "mm_projector"
    ),
    "act with a state of words": ("act", _config(state_dim="seven"), "'seven'.*'state_dim'"),
    "act with a state of nothing": ("act", _config(state_dim=None), "'state_dim'"),
    "act with a state of many": ("act", _config(state_dim=[7]), "'state_dim'"),
    "an unknown head": ("whole", _config(action_head_type="fc"), "'fc'"),
    "an unknown activation": ("whole", _config(hidden_act="zap"), "zap"),
    "heads that do not divide": ("whole", _config(num_attention_heads=5), "no multiple"),
    "an unknown tower": ("whole", _tower(vision_model_name_or_path="dino"), "neither a CLIP nor a SigLIP"),
    "a layer that is not there": ("whole", _tower(mm_vision_select_layer=-9), "layers"),
    "act without its section": ("act", _without("config.json", "act"), "act.act"),
    "a tensor missing": ("whole", _tensors(lambda t: t.pop("gpt_neox.embed_in.weight")), "embed_in"),
    "a tensor too many": ("whole", _tensors(lambda t: t.update(surprise=torch.zeros(1))), "surprise"),
    "an ignored name in another place": (
        "whole", _tensors(lambda t: t.update({"embed_out.attention.bias": torch.zeros(1)})), "unexpected"
    ),
    "another shape": (
        "whole", _tensors(lambda t: t.update({"gpt_neox.embed_in.weight": torch.zeros(3, 3)})), r"\(3, 3\)"
    ),
    "whole numbers": (
        "whole",
        _tensors(lambda t: t.update({"gpt_neox.embed_in.weight": torch.zeros(432, 32, dtype=torch.int64)})),
        "finite floats",
    ),
    "not finite": (
        "whole",
        _tensors(lambda t: t.update({"gpt_neox.embed_in.weight": torch.full((432, 32), torch.nan)})),
        "finite floats",
    ),
    "truncated weights": ("whole", _cut("model.safetensors"), "cannot be read"),
    "no weights": ("whole", _remove("model.safetensors"), "no weights"),
    "a lost shard": ("whole", _lost_shard, "model-00002-of-00002"),
    "a shard elsewhere": ("whole", _shard_elsewhere, "not beside it"),
    "no tokenizer": ("whole", _remove("tokenizer.json"), "tokenizer.json"),
    "a broken tokenizer": ("whole", _write("tokenizer.json", b"{}"), "tokenizer.json"),
    "no image processor": ("whole", _remove("preprocessor_config.json"), "preprocessor_config.json"),
    "a tokenizer of more words": ("whole", _another_word, "up to number 432, .* knows 432"),
    "a U-Net of single numbers": (
        "whole",
        _tensors(lambda t: t.update({f"embed_out.{FIRST_OF_UNET}": torch.tensor(1.0)})),
        "channels",
    ),
    "an image processor of another size": ("whole", _processor(size=99), "99 px"),
    "an image processor of a list of sizes": ("whole", _processor(size=[28, 28]), "size"),
    "an image processor of no size": ("whole", _processor(size={}), "size"),
    "an image processor of two colours": ("whole", _processor(image_mean=[0.5, 0.5]), "image_mean"),
    "an image processor that divides by zero": ("whole", _processor(image_std=[1, 0, 1]), "image_std"),
    "an image processor of numbers that are none": (
        "whole", _processor(image_std=[1, 1, float("nan")]), "image_std"
    ),
    "an unknown resampling": ("whole", _processor(resample=9), "resample"),
    "no statistics": ("whole", _remove("dataset_stats.pkl"), "no units"),
    "statistics that run code": (
        "whole", _write("dataset_stats.pkl", pickle.dumps({"qpos_mean": _Evil()})), "refused"
    ),
    "statistics with more than arrays": ("whole", _stats(extra="text"), "more than arrays"),
    "statistics of another robot": ("whole", _stats(qpos_mean=np.zeros(6, np.float32)), "another"),
    "statistics of objects": ("whole", _stats(qpos_mean=np.array([None] * 7)), "another training run"),
    "deviations of zero": ("whole", _stats(qpos_std=np.zeros(7, np.float32)), "above 0"),
    "ranges that end before they begin": (
        "whole", _stats(action_max=np.full(10, -1e9, np.float32)), "action_max below its action_min"
    ),
    "truncated statistics": ("whole", _cut("dataset_stats.pkl"), "refused"),
    "a LoRA without the other weights": ("lora", _remove("non_lora_trainables.bin"), "non_lora_trainables"),
    "a LoRA without its adapter": ("lora", _remove("adapter_model.bin"), "adapter_model"),
    "a LoRA that runs code": ("lora", _write("adapter_model.bin", pickle.dumps(_Evil())), "refused"),
    "a truncated LoRA": ("lora", _cut("non_lora_trainables.bin"), "refused"),
    "a LoRA of another kind": (
        "lora", _edit("adapter_config.json", lambda raw: raw.update(use_dora=1)), "use_dora"
    ),
    "a LoRA of another rank": (
        "lora", _edit("adapter_config.json", lambda raw: raw.update(r=8)), "says rank 8"
    ),
    "LoRA factors that do not multiply": (
        "lora", _adapter(lambda tensors, name: tensors.update({name: tensors[name][:3]})), "factors of shapes"
    ),
    "a LoRA factor that is no matrix": (
        "lora", _adapter(lambda tensors, name: tensors.update({name: tensors[name][0]})), "factors of shapes"
    ),
    "a LoRA factor without the second": ("lora", _without_factor("B"), r"lacks the tensor .*lora_B"),
    "a LoRA factor without the first": ("lora", _without_factor("A"), r"lacks the tensor .*lora_A"),
    "a LoRA on an embedding": (
        "lora", _added_to_adapter("gpt_neox.embed_in.lora_embedding_A"), "no part of plain LoRA"
    ),
    "a LoRA with biases": (
        "lora", _added_to_adapter("gpt_neox.layers.0.attention.dense.bias"), "no part of plain LoRA"
    ),
    "a LoRA that saved whole modules": (
        "lora", _added_to_adapter("embed_out.modules_to_save.combine.bias"), "no part of plain LoRA"
    ),
    "a LoRA whose other weights hold a factor": (
        "lora",
        _factor_among_the_rest,
        "unexpected tensors, the first gpt_neox.a.lora_A",
    ),
    "a LoRA without its rank": ("lora", _without("adapter_config.json", "r"), "lora_alpha"),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_broken_ends_in_one_sentence_and_code_2(copies, capsys, monkeypatch, tmp_path, name):
    kind, damage, reason = BROKEN[name]
    folder = copies(kind)
    damage(folder)
    monkeypatch.chdir(tmp_path)
    code = main(["inspect", str(folder)])
    error = capsys.readouterr().err
    assert code == 2
    assert error.count("\n") == 1, error
    assert re.search(reason, error), error
    assert not Path("evil_was_here").exists(), "the pickle's code ran"
