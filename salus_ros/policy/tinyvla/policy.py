"""TinyVLA as a policy: from an observation to a joint trajectory with its uncertainty."""

from __future__ import annotations

from pathlib import Path
from typing import Final, cast

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field

from salus_ros.assets import asset
from salus_ros.errors import SalusError
from salus_ros.policy import action as actions
from salus_ros.policy.lift import Lift, Moment
from salus_ros.policy.outputs import Outputs
from salus_ros.policy.tinyvla import checkpoint, preprocessing
from salus_ros.policy.tinyvla.aggregation import TemporalAggregation
from salus_ros.policy.tinyvla.configuration import TinyVlaConfig
from salus_ros.policy.tinyvla.engine import Engine, Precision
from salus_ros.policy.tinyvla.model import Text
from salus_ros.robot.ik import InverseKinematics
from salus_ros.robot.model import ArmModel
from salus_ros.types import ActionChunk, Floats, Floats32, Observation, PolicyOutput

URDF = "urdf/salus_arm.urdf"

OUTPUTS_KEPT_TO: Final = 8
"""Outputs over which a committed policy follows the same sample: long enough to leave the place where it
hovered, 1.6 s at 5 Hz, and short enough to try another before the time is over."""

_Saved = tuple[tuple[int, ActionChunk | None], torch.Tensor, torch.Tensor, tuple[bool, int, int], Moment]
"""Moment of the outputs, generator, noise, commitment, moment of the lift."""


class TinyVlaPolicySettings(BaseModel):
    """How a TinyVLA checkpoint is run."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: int = Field(default=0, ge=0, description="Seeds the noise that chunks are sampled from.")
    draws: int = Field(default=4, ge=1, description="Samples per ensemble member; the ACT head gives one.")
    camera_names: tuple[str, ...] = Field(
        default=(), description="Order of the views; empty: the order the checkpoint was trained with."
    )
    action_period_s: float | None = Field(
        default=None, gt=0, description="Time between the points of a chunk, s; none: the checkpoint's own."
    )
    device: str = Field(default="auto", description="auto (a GPU where there is one), cpu or cuda.")
    precision: Precision = Field(
        default="auto",
        description="auto (bfloat16 for 100 million parameters or more on a GPU that has it, else float32), "
        "float32 or bfloat16.",
    )
    temporal_aggregation: bool = Field(
        default=False,
        description="Average each step with what earlier chunks said about it, as the released code does.",
    )


class TinyVlaPolicy:
    """An ensemble of K TinyVLA members on one vision pass, S draws each.

    The arm is given the mean over all members and draws; the gripper, whose opening jumps,
    the median; a committed policy gives both of one draw. The noise stays the same from one inference to the
    next until ``reset``, so that consecutive chunks differ by what was seen, not by luck.
    """

    name = "tinyvla"

    def __init__(
        self,
        loaded: checkpoint.Checkpoint,
        settings: TinyVlaPolicySettings,
        arm: ArmModel,
        ik: InverseKinematics,
    ) -> None:
        config = loaded.config
        period = settings.action_period_s or config.extensions.action_period_s
        cameras = settings.camera_names or config.extensions.camera_names
        if period is None or not cameras:
            raise SalusError(
                f"The checkpoint {loaded.layout.folder} lacks its camera order or its action period; "
                f"say them with it: {loaded.layout.folder}?camera_names=front,wrist&action_period_s=0.05."
            )
        _check_cameras(cameras, config)
        if settings.temporal_aggregation and config.extensions.action_frame != "absolute":
            raise SalusError(
                "temporal_aggregation averages actions of several chunks, but this checkpoint's are relative "
                "to the tool's pose at each chunk's start; leave it out."
            )
        if config.action_dim != actions.ACTION_DIM:
            raise SalusError(
                f"The checkpoint's actions have {config.action_dim} numbers, expected {actions.ACTION_DIM} "
                "(position, six of rotation, gripper); write a policy of your own, see docs/own-policy.md."
            )
        self.hash = loaded.hash
        self.action_period_s = float(period)
        self.settings = settings
        self.config = config
        self._cameras = cameras
        self._loaded = loaded
        self._engine = Engine(loaded.model, settings.device, settings.precision)
        self._arm, self._ik = arm, ik
        self._prompts: dict[str, Text] = {}
        self._outputs = Outputs(self.name, self.hash)
        self._generator = torch.Generator().manual_seed(settings.seed)
        self._noise = torch.empty(0)
        self._aggregation = TemporalAggregation(self.action_period_s)
        self._committed, self._outputs_left, self._followed = False, 0, 0
        self._lift = Lift()
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
        shape = (self.settings.draws, 1, self.config.chunk_size, self.config.action_dim)
        self._noise = torch.randn(shape, generator=self._generator)
        self._committed = False
        self._lift.forget()
        self._outputs.forget()
        self._aggregation.reset()

    def commit(self) -> None:
        """See ``Committing.commit``: one draw of one member at a time, each for ``OUTPUTS_KEPT_TO``."""
        self._committed, self._outputs_left = True, 0

    def lift(self, height_m: float) -> None:
        """See ``Lifting.lift``."""
        self._lift.ask(height_m)

    def save(self) -> object:
        """See ``Rewindable.save``."""
        commitment = self._committed, self._outputs_left, self._followed
        return self._outputs.save(), self._generator.get_state(), self._noise, commitment, self._lift.save()

    def restore(self, state: object) -> None:
        """See ``Rewindable.restore``."""
        moment, generator, self._noise, commitment, lift = cast(_Saved, state)
        self._lift.restore(lift)
        self._committed, self._outputs_left, self._followed = commitment
        self._outputs.restore(moment)
        self._generator.set_state(generator)

    def act(self, observation: Observation) -> PolicyOutput:
        """One inference; see ``Policy.act``."""
        pose = self._arm.forward(observation.robot.joint_position_rad)
        drawn = self._engine.infer(
            self._pixels(observation),
            self._prompt(observation.instruction),
            self._state(observation),
            self._noise,
        )
        samples = drawn.samples
        if not np.isfinite(samples).all():
            raise SalusError(
                "The policy computed a chunk that is not finite; its weights or inputs are broken."
            )
        chunk = self._to_chunk(observation, pose, samples)
        return self._outputs.next(
            observation,
            chunk,
            samples,
            velocity_field_disagreement=drawn.disagreement,
            latent=drawn.latent,
        )

    def _to_chunk(self, observation: Observation, pose: Floats, samples: Floats32) -> ActionChunk:
        extensions = self.config.extensions
        # The ACT head is normalised by mean and deviation whatever the file says: so was it trained.
        normalisation = "per_step" if self.config.head == "act" else extensions.action_normalisation
        every = self._loaded.statistics.actions(samples, normalisation)
        every = every.reshape(-1, *samples.shape[2:]).astype(np.float64)
        if self._committed:
            every = every[[self._sample(len(every))]]
        mean = every.mean(axis=0)
        opening = np.median(every[..., actions.GRIPPER], axis=0)
        if self.settings.temporal_aggregation:
            first_s = observation.stamp_s + self.action_period_s
            mean = self._aggregation.add(first_s, mean)
            opening = mean[:, actions.GRIPPER]
        if extensions.action_frame == "measured_tool":
            poses = actions.from_relative(pose, mean)
        else:
            poses = actions.from_absolute(mean)
        if extensions.lowest_tool_m is not None:
            poses[:, 2, 3] = np.maximum(poses[:, 2, 3], extensions.lowest_tool_m)
        times_s = self.action_period_s * np.arange(1.0, len(poses) + 1.0, dtype=np.float64)
        raised = self._lift.poses(observation.stamp_s, pose, times_s)
        if raised is not None:
            poses, opening = raised, np.full_like(opening, opening[0])
        return actions.to_chunk(
            observation.stamp_s,
            observation.robot.joint_position_rad,
            poses,
            np.clip(opening, 0.0, None),
            self.action_period_s,
            self._ik,
        )

    def _sample(self, count: int) -> int:
        """Which of so many samples a committed policy follows."""
        if self._outputs_left == 0:
            self._aggregation.reset()
            self._followed = int(torch.randint(count, (1,), generator=self._generator))
            self._outputs_left = OUTPUTS_KEPT_TO
        self._outputs_left -= 1
        return self._followed

    def _pixels(self, observation: Observation) -> torch.Tensor:
        missing = [name for name in self._cameras if name not in observation.images]
        if missing:
            raise SalusError(
                f"The observation has cameras {sorted(observation.images)}, but the policy needs "
                f"{list(self._cameras)}; publish {missing[0]!r}."
            )
        for name in self._cameras:
            image = observation.images[name]
            if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
                raise SalusError(
                    f"Camera {name!r} gave an image of shape {image.shape} and type {image.dtype}, expected "
                    "(H, W, 3) uint8 RGB; convert it."
                )
        images = [observation.images[name] for name in self._cameras]
        return preprocessing.pixels(images, self._loaded.processor, self.config.crop)

    def _prompt(self, instruction: str) -> Text:
        if not instruction.strip():
            raise SalusError("The observation's instruction is empty; say what is to be done.")
        if instruction not in self._prompts:
            text = preprocessing.prompt(instruction, training_form=self.config.extensions.training_prompt)
            ids = preprocessing.prompt_ids(self._loaded.tokenizer, text)
            self._prompts[instruction] = self._engine.prepare(torch.tensor(ids))
        return self._prompts[instruction]

    def _state(self, observation: Observation) -> torch.Tensor:
        robot = observation.robot
        state = actions.tool_state(
            self._arm,
            robot.joint_position_rad,
            robot.joint_velocity_rad_s,
            np.asarray(robot.gripper_opening_m),
            self.config.state_dim,
        )
        normalised = self._loaded.statistics.normalise_state(state.astype(np.float32))
        # What a driver does not report counts as average; training knows such states.
        return torch.from_numpy(np.nan_to_num(normalised))


def _check_cameras(cameras: tuple[str, ...], config: TinyVlaConfig) -> None:
    if config.views_max is not None and len(cameras) > config.views_max:
        raise SalusError(
            f"The checkpoint was given the cameras {', '.join(cameras)}, but its config.json says concat "
            f"{config.raw.get('concat')!r}, which takes one view; name one camera."
        )
    joined, tokens = config.extensions.joined_tokens, len(cameras) * config.vision_tower.tokens_per_view
    if joined and joined != tokens:
        raise SalusError(
            f"The checkpoint joins {joined} image tokens, but the cameras {', '.join(cameras)} give "
            f"{tokens}; name as many cameras as it was trained with."
        )
