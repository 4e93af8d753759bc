"""TinyVLA as a policy: from an observation to a joint trajectory with its uncertainty."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field

from salus_ros.assets import asset
from salus_ros.errors import SalusError
from salus_ros.policy import action as actions
from salus_ros.policy import uncertainty
from salus_ros.policy.tinyvla import checkpoint, preprocessing
from salus_ros.robot.ik import InverseKinematics
from salus_ros.robot.model import ArmModel
from salus_ros.types import ActionChunk, Floats, Floats32, Observation, PolicyOutput

URDF = "urdf/salus_arm.urdf"

_Saved = tuple[int, torch.Tensor, torch.Tensor, ActionChunk | None]
"""Sequence number, generator, noise, and the chunk before."""


class TinyVlaPolicySettings(BaseModel):
    """How a TinyVLA checkpoint is run."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: int = Field(default=0, ge=0, description="Seeds the noise that chunks are sampled from.")
    draws: int = Field(default=4, ge=1, description="Samples per ensemble member.")
    camera_names: tuple[str, ...] = Field(
        default=(), description="Order of the views; empty: the order the checkpoint was trained with."
    )
    action_period_s: float | None = Field(
        default=None, gt=0, description="Time between the points of a chunk, s; none: the checkpoint's own."
    )


class TinyVlaPolicy:
    """An ensemble of K TinyVLA members on one vision pass, S draws each.

    The arm is given the mean over all members and draws; the gripper, whose opening jumps,
    the median. The noise stays the same from one inference to the next until ``reset``, so
    that consecutive chunks differ by what was seen, not by luck.
    """

    name = "tinyvla"

    def __init__(
        self,
        loaded: checkpoint.Checkpoint,
        settings: TinyVlaPolicySettings,
        arm: ArmModel,
        ik: InverseKinematics,
    ) -> None:
        extensions = loaded.model.extensions
        period = settings.action_period_s or extensions.action_period_s
        cameras = settings.camera_names or extensions.camera_names
        if period is None or not cameras:
            raise SalusError(
                "The checkpoint names neither its camera order nor its action period; "
                "set camera_names and action_period_s."
            )
        self.hash = loaded.hash
        self.action_period_s = float(period)
        self.settings = settings
        self._cameras = cameras
        self._loaded, self._model = loaded, loaded.model
        self._arm, self._ik = arm, ik
        self._ids: dict[str, torch.Tensor] = {}
        self._sequence = 0
        self._generator = torch.Generator().manual_seed(settings.seed)
        self._noise = torch.empty(0)
        self._before: ActionChunk | None = None
        self.reset()

    @classmethod
    def load(cls, folder: Path, settings: TinyVlaPolicySettings | None = None) -> TinyVlaPolicy:
        """Load a checkpoint directory for the shipped arm."""
        urdf = asset(URDF)
        return cls(
            checkpoint.load(folder),
            settings or TinyVlaPolicySettings(),
            ArmModel.from_urdf(urdf),
            InverseKinematics(urdf),
        )

    def reset(self, seed: int | None = None) -> None:
        """Forget the chunk before and draw new noise, from ``seed`` where one is given."""
        if seed is not None:
            self._generator.manual_seed(seed)
        config = self._model.config
        shape = (self.settings.draws, 1, config.chunk_size, config.action_dim)
        self._noise = torch.randn(shape, generator=self._generator)
        self._before = None

    def save(self) -> object:
        """See ``Rewindable.save``."""
        return self._sequence, self._generator.get_state(), self._noise, self._before

    def restore(self, state: object) -> None:
        """See ``Rewindable.restore``."""
        self._sequence, generator, self._noise, self._before = cast(_Saved, state)
        self._generator.set_state(generator)

    def act(self, observation: Observation) -> PolicyOutput:
        """One inference; see ``Policy.act``."""
        pose = self._arm.forward(observation.robot.joint_position_rad)
        samples, disagreement, latent = self._sample(observation)
        chunk = self._to_chunk(observation, pose, samples)
        result = PolicyOutput(
            sequence=self._sequence,
            policy_name=self.name,
            policy_hash=self.hash,
            instruction=observation.instruction,
            chunk=chunk,
            uncertainty=uncertainty.of_samples(
                samples,
                velocity_field_disagreement=disagreement,
                overlap=uncertainty.overlap_divergence(self._before, chunk),
                latent=latent,
            ),
            samples=samples,
            inference_time_s=float("nan"),
        )
        self._sequence += 1
        self._before = chunk
        return result

    def _sample(self, observation: Observation) -> tuple[Floats32, float, Floats32]:
        """Draw normalised chunks (K, S, T, D), with the members' disagreement and the latent (H,)."""
        model = self._model
        with torch.inference_mode():
            condition = model.condition(
                self._pixels(observation)[None],
                self._prompt(observation.instruction),
                self._state(observation)[None],
            )
            noise = self._noise.expand(-1, condition.shape[1], -1, -1).contiguous()
            drawn = model.sample(condition, noise)
        samples = drawn.actions.transpose(0, 1).contiguous().numpy()
        if not np.isfinite(samples).all():
            raise SalusError(
                "The policy computed a chunk that is not finite; its weights or inputs are broken."
            )
        disagreement = float(drawn.disagreement.mean()) if len(drawn.disagreement) else float("nan")
        return samples, disagreement, condition.mean(dim=(0, 1)).numpy()

    def _to_chunk(self, observation: Observation, pose: Floats, samples: Floats32) -> ActionChunk:
        extensions = self._model.extensions
        every = self._loaded.statistics.actions(samples, extensions.action_normalisation)
        every = every.reshape(-1, *samples.shape[2:]).astype(np.float64)
        mean = every.mean(axis=0)
        if extensions.action_frame == "measured_tool":
            poses = actions.from_relative(pose, mean)
        else:
            poses = actions.from_absolute(mean)
        if extensions.lowest_tool_m is not None:
            poses[:, 2, 3] = np.maximum(poses[:, 2, 3], extensions.lowest_tool_m)
        return actions.to_chunk(
            observation.stamp_s,
            observation.robot.joint_position_rad,
            poses,
            np.clip(np.median(every[..., actions.GRIPPER], axis=0), 0.0, None),
            self.action_period_s,
            self._ik,
        )

    def _pixels(self, observation: Observation) -> torch.Tensor:
        missing = [name for name in self._cameras if name not in observation.images]
        if missing:
            raise SalusError(
                f"The observation has cameras {sorted(observation.images)}, but the policy needs "
                f"{list(self._cameras)}; publish {missing[0]!r}."
            )
        views = []
        for name in self._cameras:
            image = observation.images[name]
            if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
                raise SalusError(
                    f"Camera {name!r} gave an image of shape {image.shape} and type {image.dtype}, expected "
                    "(H, W, 3) uint8 RGB; convert it."
                )
            view = preprocessing.views_to_unit([image])
            if self._model.extensions.crop:
                view = preprocessing.centre_crop(view)
            views.append(self._loaded.processor(view))
        return torch.cat(views)

    def _prompt(self, instruction: str) -> torch.Tensor:
        if not instruction.strip():
            raise SalusError("The observation's instruction is empty; say what is to be done.")
        if instruction not in self._ids:
            ids = preprocessing.prompt_ids(self._loaded.tokenizer, preprocessing.prompt(instruction))
            self._ids[instruction] = torch.tensor([ids])
        return self._ids[instruction]

    def _state(self, observation: Observation) -> torch.Tensor:
        robot = observation.robot
        state = actions.tool_state(
            self._arm,
            robot.joint_position_rad,
            robot.joint_velocity_rad_s,
            np.asarray(robot.gripper_opening_m),
            self._model.config.state_dim,
        )
        normalised = self._loaded.statistics.normalise_state(state.astype(np.float32))
        # What a driver does not report counts as average; training knows such states.
        return torch.from_numpy(np.nan_to_num(normalised))
