"""What a user can change about the monitor."""

from __future__ import annotations

from typing import Final

from pydantic import BaseModel, ConfigDict, Field

FRONT_CAMERA_POSE: Final[tuple[float, ...]] = (
    1.1,
    0.07,
    0.8,
    0.66318485,
    0.66318485,
    -0.24532804,
    -0.24532804,
)
"""Of the simulated world: beside the bin, looking at the table. Yours comes from its calibration."""


class MonitorSettings(BaseModel):
    """Rates, age limits and geometry. They travel inside the checkpoint that was trained with them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    urdf: str = Field(
        "urdf/salus_arm.urdf", description="Robot description, as salus_ros.assets.asset finds it."
    )
    period_s: float = Field(0.05, gt=0, le=0.2, description="Time between two predictions.")
    window_steps: int = Field(20, ge=2, le=100, description="Predictions' worth of signals seen at once.")
    robot_max_age_s: float = Field(0.2, gt=0, description="Older joint states count as not available.")
    policy_max_age_s: float = Field(
        1.0, gt=0, description="Older policy outputs count as not available (a chunk lasts 0.8 s)."
    )
    points_max_age_s: float = Field(0.5, gt=0, description="Older depth clouds count as not available.")
    intervention_max_age_s: float = Field(0.5, gt=0, description="Older gate states count as not available.")
    support_height_m: float = Field(
        0.012,
        description="Points up to this height over the arm's base are the table.",
    )
    clearance_cap_m: float = Field(
        0.3, gt=0, description="Clearances are cut off here: farther is not nearer."
    )
    contact_distance_m: float = Field(0.01, gt=0, description="A clearance below this counts as contact.")
    camera_poses: dict[str, tuple[float, ...]] = Field(
        default_factory=lambda: {"front_optical_frame": FRONT_CAMERA_POSE},
        description="Depth camera frames that stand beside the robot: name to x, y, z in m and the "
        "quaternion x, y, z, w in the arm's base frame. Frames of the robot description need no entry.",
    )
    max_points: int = Field(3000, ge=50, description="A denser cloud is thinned evenly to this many points.")
    max_obstacle_points: int = Field(
        500,
        ge=50,
        description="Clearances along the plan look at so many points of what is no robot, evenly thinned; "
        "what lies near the fingers is looked at in full.",
    )
