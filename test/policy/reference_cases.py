"""Small random checkpoints in the published layouts, and what the published code computed on them.

``golden/reference_cases.npz`` holds, for each case, the configuration, the names and shapes of the state
dict, inputs, and outputs of liyaxuanliyaxuan/TinyVLA at 94f4418 in float32, under transformers 4.37.1 and
peft 0.4.0, with the step embedding cast to float32 (without that it does not run).
The weights themselves are made again from the tensors' names.
"""

from __future__ import annotations

import json
import shutil
import zlib
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

GOLDEN = Path(__file__).parent / "golden"
CASES = (
    "one_view", "two_views", "three_views", "siglip", "class_token", "sequential", "act", "act_norm_first",
)  # fmt: skip


def platform_name() -> str:
    """What decides how float32 rounds: processor, library, and the instructions that it uses."""
    info: dict[str, str] = {}
    if Path("/proc/cpuinfo").exists():
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            key, _, value = line.partition(":")
            info.setdefault(key.strip(), value.strip())
    processor = "/".join(info.get(key, "") for key in ("model name", "cpu family", "model", "stepping"))
    return f"{processor} torch {torch.__version__} {torch.backends.cpu.get_cpu_capability()}"


def load_cases() -> dict[str, np.ndarray]:
    with np.load(GOLDEN / "reference_cases.npz") as stored:
        return {name: stored[name] for name in stored.files}


def of_case(stored: dict[str, np.ndarray], case: str) -> dict[str, np.ndarray]:
    return {name.partition("/")[2]: array for name, array in stored.items() if name.startswith(f"{case}/")}


def weight(name: str, shape: tuple[int, ...]) -> Tensor:
    """The value of a tensor: normal numbers seeded by its name, scaled so that signals keep their size."""
    x = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape).astype(np.float32)
    if "norm" in name and name.endswith("weight"):
        return torch.from_numpy(1 + 0.1 * x)
    fan = int(np.prod(shape[1:])) if len(shape) > 1 else 100
    return torch.from_numpy(x / np.float32(np.sqrt(fan)))


def weights(keys: np.ndarray, shapes: np.ndarray) -> dict[str, Tensor]:
    sized = {str(key): tuple(json.loads(str(shape))) for key, shape in zip(keys, shapes, strict=True)}
    return {key: weight(key, shape) for key, shape in sized.items()}


def sinusoid_table(length: int, width: int) -> Tensor:
    """The buffer of the ACT head, by the published formula."""
    place = np.arange(length)[:, None] / np.power(10000, 2 * (np.arange(width) // 2) / width)
    place[:, 0::2], place[:, 1::2] = np.sin(place[:, 0::2]), np.cos(place[:, 1::2])
    return torch.from_numpy(place.astype(np.float32))[None]


def write_small_files(folder: Path, config: dict[str, object], side: int) -> None:
    """Everything but the weights."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    for name in ("tokenizer.json", "dataset_stats.pkl"):
        shutil.copy(GOLDEN / "clip_diffusion" / name, folder / name)
    processor = json.loads((GOLDEN / "clip_diffusion" / "preprocessor_config.json").read_text())
    processor.update(size={"shortest_edge": side}, crop_size={"height": side, "width": side})
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))


def write_case(folder: Path, case: dict[str, np.ndarray]) -> Path:
    """A whole checkpoint."""
    config = json.loads(str(case["config"]))
    write_small_files(folder, config, int(config["vision_config"]["vision_tower"]["image_size"]))
    tensors = weights(case["keys"], case["shapes"])
    if "embed_out.pos_table" in tensors:
        tensors["embed_out.pos_table"] = sinusoid_table(*tensors["embed_out.pos_table"].shape[1:])
    save_file(tensors, folder / "model.safetensors")
    return folder


def write_backbone(folder: Path, case: dict[str, np.ndarray], dtype: torch.dtype = torch.float32) -> Path:
    """As published: no head of ours in the configuration, the language model's head in the weights."""
    config = json.loads(str(case["config"]))
    for key in ("action_head_type", "action_dim", "state_dim", "chunk_size"):
        del config[key]
    write_small_files(folder, {**config, "concat": "None"}, 28)
    (folder / "dataset_stats.pkl").unlink()
    tensors = {name: tensor.to(dtype) for name, tensor in weights(case["keys"], case["shapes"]).items()}
    kept = {name: tensor for name, tensor in tensors.items() if "embed_out" not in name}
    save_file({**kept, "embed_out.weight": torch.zeros(432, 32, dtype=dtype)}, folder / "model.safetensors")
    return folder


def write_lora_run(folder: Path, stored: dict[str, np.ndarray]) -> Path:
    """A LoRA run directory: configuration and statistics in it, weights in ``checkpoint-20``."""
    case, lora = of_case(stored, "two_views"), of_case(stored, "lora")
    write_small_files(folder, json.loads(str(case["config"])), 28)
    step = folder / "checkpoint-20"
    step.mkdir()
    (step / "adapter_config.json").write_text(str(lora["adapter_config"]))
    # peft saves its keys without the adapter's name; the values were made from the names with it.
    adapter = {}
    for key, shape in zip(lora["adapter_keys"], lora["adapter_shapes"], strict=True):
        made_as = str(key).replace(".weight", ".default.weight")
        adapter[str(key)] = 0.3 * weight(made_as, tuple(json.loads(str(shape))))
    torch.save(adapter, step / "adapter_model.bin")
    rest = {}
    for key, shape in zip(lora["rest_keys"], lora["rest_shapes"], strict=True):
        bare = str(key).removeprefix("base_model.model.")
        rest[str(key)] = weight(bare, tuple(json.loads(str(shape))))
    torch.save(rest, step / "non_lora_trainables.bin")
    return folder
