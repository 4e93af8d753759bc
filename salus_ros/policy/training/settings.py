"""How a policy is trained from nothing."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from salus_ros.policy.tinyvla.configuration import MemberPart


class TrainingSettings(BaseModel):
    """How a policy is trained."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: int = Field(default=0, ge=0, description="Seeds initial weights, resamples, batches and noise.")
    members: int = Field(default=5, ge=1, description="Ensemble members.")
    member_part: MemberPart = Field(
        default="last_block", description="What each member has for itself; see the checkpoint's member_part."
    )
    members_per_episode: int = Field(default=2, ge=1, description="Members that learn from one episode.")
    batch: int = Field(default=60, ge=1, description="Observations per step, about.")
    draws: int = Field(default=2, ge=1, description="Noise draws per observation and member.")
    learning_rate: float = Field(default=1e-3, gt=0, description="AdamW's highest learning rate.")
    weight_decay: float = Field(default=1e-2, ge=0, description="AdamW's weight decay.")
    warm_up_steps: int = Field(default=100, ge=1, description="Steps of rising learning rate.")
    decay_from: float = Field(
        default=0.5, ge=0, lt=1, description="Share of the run after which the rate falls to 0."
    )
    average_decay: float = Field(
        default=0.998, ge=0, lt=1, description="Decay of the weights' moving average."
    )
    deciding_m: float = Field(
        default=0.05,
        ge=0,
        description="Frames whose tool is farther than this from the named object, sideways,"
        " decide which object is approached.",
    )
    deciding_repeats: int = Field(
        default=1, ge=0, description="How often more than others such frames are used."
    )
    shift_px: int = Field(default=1, ge=0, description="Random shift of each view, pixels.")
    hidden_velocity: float = Field(
        default=0.2, ge=0, le=1, description="Share of states whose velocity is replaced by the average."
    )
    brightness: float = Field(
        default=0.25, ge=0, lt=1, description="Random change of brightness of each view."
    )
    position_floor_m: float = Field(
        default=0.008, gt=0, description="Least deviation that positions are divided by."
    )
    rotation_floor: float = Field(default=0.05, gt=0, description="The same for the six numbers of rotation.")
    gripper_floor_m: float = Field(default=0.008, gt=0, description="The same for the gripper's opening.")
    auxiliary_weight: float = Field(default=0.5, ge=0, description="Weight of the position losses.")
    goal_weight: float = Field(
        default=0.5, ge=0, description="Weight of the goal's position beside the named object's."
    )
    counterfactual_weight: float = Field(default=0.5, ge=0, description="Weight of the counterfactual loss.")
    task_weights: dict[str, float] = Field(
        default={"stack": 2.0, "push": 2.0},
        description="Share of each task in a batch, relative to the others; 1 for those that are not named.",
    )
