"""``salus train-policy --init-from PATH --demos DATA --heads K``: action heads on a Llava-Pythia.

It stays as it is, or with ``--lora RANK`` gets adapters on its language model.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from salus_ros.assets import asset
from salus_ros.cli.training_run import train_for
from salus_ros.errors import SalusError
from salus_ros.policy.tinyvla import checkpoint, lora
from salus_ros.policy.tinyvla.cloning import ACTION_DIM, STATE_DIM, Source
from salus_ros.policy.tinyvla.features import FeatureCache
from salus_ros.policy.tinyvla.finetuning import HeadSettings, HeadTrainer
from salus_ros.policy.tinyvla.layout import WEIGHTS, locate
from salus_ros.policy.tinyvla.statistics import write_published_statistics
from salus_ros.robot.model import ArmModel


def train(init: Path, data: Path, output: Path, settings: HeadSettings, minutes: float) -> None:
    """Compute features, train for so many minutes in all, save; goes on where it was interrupted.

    Raises:
        SalusError: checkpoint, data and settings do not go together, or the GPU's memory ran out.
    """
    try:
        _train(init, data, output, settings, minutes)
    except torch.OutOfMemoryError as error:
        reason = str(error).strip().split("\n")[0]
        raise SalusError(
            f"The GPU's memory ran out ({reason}); free it, or train fewer --heads, smaller --widths or no "
            "--lora."
        ) from None


def _train(init: Path, data: Path, output: Path, settings: HeadSettings, minutes: float) -> None:
    if not data.exists():
        raise SalusError(f"There is no {data}; give a store or a folder of demonstrations.")
    if settings.lora_rank and (output / WEIGHTS).exists():
        # It would be taken for what the run made.
        raise SalusError(f"{output} holds a whole checkpoint already; choose another --output.")
    if settings.lora_rank:
        lora.need_peft()
    layout = locate(init)
    start = _one_head(init) if checkpoint.head_of(layout.tensors()) == "droid_diffusion" else None
    backbone = checkpoint.load_backbone(init)
    if torch.cuda.is_available():
        # 19 bits of each factor in a product are more than the 16 in which the weights are stored.
        torch.set_float32_matmul_precision("high")
        backbone.model.to("cuda")
    if backbone.config.extensions.joined_tokens:
        raise SalusError(
            f"{init} joins image tokens place by place, for which an average over all is not enough; heads "
            "are trained on published architectures only."
        )
    settings = _fitting(settings, start)
    arm = ArmModel.from_urdf(asset("urdf/salus_arm.urdf"))
    source = Source(data, settings.cameras, settings.chunk, settings.period_s, arm)
    made_of = {
        "backbone": checkpoint.hash_of_files(*layout.weights),
        "data": str(data.resolve()),
        **settings.model_dump(mode="json", include={"cameras", "chunk", "period_s"}),
    }
    cache = FeatureCache(output / "features", "image_tokens" if settings.lora_rank else "average", made_of)
    clips = tqdm(source.clips(), desc="frames through the backbone", unit="episode")
    episodes = list(cache.of(backbone, clips))
    trainer = HeadTrainer(backbone, episodes, settings, start)
    frames = sum(len(episode.state) for episode in episodes)
    print(f"{len(episodes)} successful episodes, {frames} frames, {settings.heads} heads")
    figures = train_for(trainer, 60 * minutes, output / "heads.pt")
    trainer.model.eval()
    made = (output, trainer.model, backbone.tokenizer, backbone.processor, trainer.statistics)
    if settings.lora_rank:
        checkpoint.save_beside(*made)
        lora.save_run(output, trainer.step_count, trainer.model, settings.lora_rank, init)
    else:
        checkpoint.save(*made)
    write_published_statistics(output / "dataset_stats.pkl", trainer.statistics)
    record = {
        "init_from": made_of["backbone"],
        "episodes": len(episodes),
        "frames": frames,
        "steps": trainer.step_count,
        "minutes": round(trainer.elapsed_s / 60, 2),
        **{name: round(value, 5) for name, value in figures.items()},
        "first_head_kept": start is not None and not settings.lora_rank,
        "settings": settings.model_dump(mode="json"),
    }
    (output / "training.json").write_text(json.dumps(record, indent=2) + "\n")
    print(f"policy  {output} (salus inspect {output} says what it is)")


def _one_head(init: Path) -> checkpoint.Checkpoint:
    loaded = checkpoint.load(init)
    if loaded.config.extensions.members > 1:
        raise SalusError(
            f"{init} has {loaded.config.extensions.members} members already; give a backbone or a fine-tune "
            "with one head."
        )
    return loaded


def _fitting(settings: HeadSettings, start: checkpoint.Checkpoint | None) -> HeadSettings:
    """Heads beside an existing one have its sizes, its chunk, its cameras and its period.

    Raises:
        SalusError: it has other states, actions or views than what is learned here, or the sizes do not
            go together.
    """
    if start is not None:
        config = start.config
        widths = checkpoint.head_widths(start.model.state_dict())
        own: dict[str, object] = {"widths": tuple(widths), "chunk": config.chunk_size}
        if config.extensions.camera_names:
            own["cameras"] = config.extensions.camera_names
        if config.extensions.action_period_s:
            own["period_s"] = config.extensions.action_period_s
        settings = settings.model_copy(update=own)
        _check_start(start, settings)
    multiple = 2 ** (len(settings.widths) - 1)
    if settings.chunk % multiple:
        raise SalusError(
            f"A U-Net of {len(settings.widths)} widths needs chunks of a multiple of {multiple} steps, but "
            f"they are {settings.chunk} long; give fewer --widths."
        )
    return settings


def _check_start(start: checkpoint.Checkpoint, settings: HeadSettings) -> None:
    config, folder = start.config, start.layout.folder
    if (config.state_dim, config.action_dim) != (STATE_DIM, ACTION_DIM):
        raise SalusError(
            f"{folder} takes states of {config.state_dim} numbers and gives actions of {config.action_dim}, "
            f"but heads are trained on {STATE_DIM} and {ACTION_DIM}; give a fine-tune of these sizes, or the "
            "backbone that it was made from."
        )
    if config.views_max is not None and len(settings.cameras) > config.views_max:
        raise SalusError(
            f"{folder} was trained on one view, but the cameras are {', '.join(settings.cameras)}; name the "
            "one with --cameras."
        )
    statistics = start.statistics
    if config.extensions.action_normalisation == "range":
        still = np.flatnonzero(statistics.action_max <= statistics.action_min)
        if len(still):
            raise SalusError(
                f"{folder} was trained on actions whose number {still[0]} never changed, which leaves no "
                "range to normalise by; give another fine-tune, or the backbone that it was made from."
            )
