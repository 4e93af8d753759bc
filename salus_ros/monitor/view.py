"""What the signals see: the newest inputs at one moment, and what follows from them directly.

Everything here comes from messages that a real robot's drivers, policy, camera and gate publish.
J is the number of arm joints, T of points in a chunk.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from salus_ros.monitor.body import Body
from salus_ros.monitor.latents import LatentReference
from salus_ros.monitor.settings import MonitorSettings
from salus_ros.types import Floats, InterventionState, PolicyOutput

SAME_INSTANT_S: Final = 1e-6
"""Stamps closer than this are one: they are sums of periods, or seconds since 1970 in double precision."""
SAME_PATH_TIME_S: Final = 1e-4
"""The same for path times, which are sums of many rounded periods."""
RECENT_S: Final = 0.1
"""Over how much of the history speeds are averaged."""
AHEAD_S: Final = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6)
"""Where along the plan signals look: past the longest horizon by the time that a contact takes to show."""


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """A policy output and where its chunk leads."""

    output: PolicyOutput
    tool: Floats
    """(T, 4, 4), tool poses of the chunk in the base frame."""
    reference: Plan | None = field(default=None, repr=False)
    """The plan that was being followed when this one's observation was made; its own reference is dropped."""
    reference_path_time_s: float = float("nan")
    """Path time on the reference at this plan's stamp, which aligns the two whatever the speed was."""
    known: dict[str, float] = field(default_factory=dict, repr=False)
    """What ``once`` has computed."""

    def once(self, name: str, compute: Callable[[Plan], float]) -> float:
        """A number that depends on this plan alone: computed when first asked for, not at every tick."""
        if name not in self.known:
            self.known[name] = compute(self)
        return self.known[name]

    @property
    def time_s(self) -> Floats:
        """(T,), path times of the chunk's points."""
        return self.output.chunk.time_from_start_s

    def joints_at(self, path_time_s: float | Floats) -> Floats:
        """(..., J), joint positions at path times; before the first and after the last point, that point."""
        return _interpolate(self.time_s, self.output.chunk.joint_position_rad, path_time_s)

    def gripper_at(self, path_time_s: float | Floats) -> Floats:
        """(...,), gripper opening commanded at path times, m: that of the newest point reached."""
        index = np.searchsorted(self.time_s, np.asarray(path_time_s) + SAME_PATH_TIME_S, side="right") - 1
        return np.asarray(self.output.chunk.gripper_opening_m)[np.clip(index, 0, len(self.time_s) - 1)]

    def tool_at(self, path_time_s: float | Floats) -> Floats:
        """(..., 3), tool position at path times, m, in the base frame."""
        return _interpolate(self.time_s, self.tool[:, :3, 3], path_time_s)


@dataclass(frozen=True, slots=True, eq=False)
class Motion:
    """The last second of joint states, oldest first; N of them."""

    stamp_s: Floats
    """(N,)"""
    position_rad: Floats
    """(N, J)"""
    velocity_rad_s: Floats
    """(N, J), from the positions where the driver reports none."""
    effort_nm: Floats
    """(N, J), nan where the driver reports none."""
    opening_m: Floats
    """(N,)"""

    def since(self, age_s: float) -> slice:
        """The states that are at most this much older than the newest."""
        first = int(np.searchsorted(self.stamp_s, self.stamp_s[-1] - age_s - SAME_INSTANT_S))
        return slice(first, len(self.stamp_s))

    def at(self, stamp_s: float | Floats) -> Floats:
        """(..., J), joint positions at times inside the history."""
        return _interpolate(self.stamp_s, self.position_rad, stamp_s)


@dataclass(frozen=True, slots=True, eq=False)
class Scenery:
    """The newest depth cloud, in the base frame, without robot, table and what the gripper holds."""

    stamp_s: float
    obstacles_m: Floats
    """(N, 3)"""
    things_m: Floats
    """(N, 3), the obstacles and what lies in the grasp."""
    near_tool_m: Floats
    """(N, 3), those of the things that lie near the fingertips, in the tool frame at the stamp."""
    between_fingers: int
    """Points inside the grasp between the fingers."""
    below_fingers: int
    """Points in the column under the grasp, above the table."""
    visible: int
    """Points of the cloud that are neither robot nor table; 0 when everything is out of sight."""


@dataclass(frozen=True, slots=True)
class Grips:
    """How often, since the last reset, the fingers did not get or did not keep what they closed on."""

    empty: int = 0
    """They closed without ever being stopped."""
    lost: int = 0
    """They were stopped by something, and went on closing later."""


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """The newest inputs at ``now_s``; ``None`` where there is none or it is too old."""

    now_s: float
    settings: MonitorSettings
    body: Body
    motion: Motion | None
    links: Floats | None
    """(L, 4, 4), measured link poses in the base frame; the tool is the last."""
    tool_before_m: Floats | None
    """(3,), measured tool position ``RECENT_S`` ago, or where the history begins."""
    links_before: Floats | None
    """(L, 4, 4), measured link poses where the history begins, up to a second ago."""
    plan: Plan | None
    """The newest plan."""
    followed: Plan | None
    """The plan that the gate executes; the newest where no gate reports."""
    path_time_s: float
    """Time on the followed plan; nan without one."""
    links_ahead: Floats | None
    """(len(AHEAD_S), L, 4, 4), link poses along the followed plan from now on, if the arm stays as far from
    it as it is: where an arm that sags or lags will really be."""
    before: PolicyOutput | None
    """The policy output before the newest."""
    scenery: Scenery | None
    sceneries: tuple[Scenery, ...]
    """Those of the last second, oldest first; empty when the newest is too old."""
    grips: Grips
    """What the fingers have met so far."""
    latents: LatentReference | None
    """Latents of successes; ``None`` in a monitor that is not trained yet."""
    intervention: InterventionState | None

    @property
    def tool(self) -> Floats | None:
        """(4, 4), measured tool pose in the base frame."""
        return None if self.links is None else self.links[-1]


def _interpolate(times: Floats, rows: Floats, at: float | Floats) -> Floats:
    """Rows (T, K) at times ``at`` (...): linear, held constant outside."""
    at = np.clip(np.asarray(at, float), times[0], times[-1])
    if len(times) == 1:
        return np.broadcast_to(rows[0], (*at.shape, rows.shape[1]))
    upper = np.clip(np.searchsorted(times, at, side="right"), 1, len(times) - 1)
    share = (at - times[upper - 1]) / (times[upper] - times[upper - 1])
    result: Floats = rows[upper - 1] + share[..., None] * (rows[upper] - rows[upper - 1])
    return result
