"""Buffers of stamped inputs, from which the view of any moment is made.

Nothing here reads a clock. Messages count when they are handed over; ages come from their stamps. So the
same record gives the same views, whether it arrives live or is replayed.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import replace
from typing import Final

import numpy as np

from salus_ros.monitor.body import Body
from salus_ros.monitor.grips import GripWatch
from salus_ros.monitor.latents import LatentReference
from salus_ros.monitor.scenery import Scene
from salus_ros.monitor.settings import MonitorSettings
from salus_ros.monitor.view import AHEAD_S, RECENT_S, SAME_INSTANT_S, Motion, Plan, Scenery, View
from salus_ros.types import InterventionState, PointCloud, PolicyOutput, RobotState

HISTORY_S: Final = 1.0
"""How long joint states and gate states are kept: the window that signals may look back over."""
MAX_KEPT: Final = 400
"""Messages kept of each kind at most, so that a flood cannot fill the memory."""
PLANS_KEPT: Final = 4
"""The gate follows one of the newest two; two more cover a replan under way."""
CLOCK_JUMP_S: Final = 1.0
"""A stamp that lies this far before the newest one means that the clock was set back, as by a reset."""


class Inputs:
    """Takes messages as they arrive and shows the newest of each."""

    def __init__(self, settings: MonitorSettings, body: Body, latents: LatentReference | None = None) -> None:
        self._settings = settings
        self._latents = latents
        self._body = body
        self._joints = len(body.model.joint_names)
        self.refused: Counter[str] = Counter()
        """Messages that could not be used, by reason."""
        self.clear()

    def clear(self) -> None:
        """Forgets all messages, as between episodes."""
        self._robot: deque[RobotState] = deque(maxlen=MAX_KEPT)
        self._states: deque[InterventionState] = deque(maxlen=MAX_KEPT)
        self._plans: deque[Plan] = deque(maxlen=PLANS_KEPT)
        self._cloud: PointCloud | None = None
        self._scenery: Scenery | None = None
        self._sceneries: deque[Scenery] = deque(maxlen=MAX_KEPT)
        self._grips = GripWatch()

    def robot(self, state: RobotState) -> None:
        """Takes a measured state; one with positions of the wrong length or not finite is refused."""
        joints = (self._joints,)
        shapes = {
            np.shape(state.joint_position_rad),
            np.shape(state.joint_velocity_rad_s),
            np.shape(state.joint_effort_nm),
        }
        if shapes != {joints}:
            self.refused["joint state with the wrong number of joints"] += 1
        elif not (np.isfinite(state.stamp_s) and np.isfinite(state.joint_position_rad).all()):
            self.refused["joint state that is not finite"] += 1
        elif self._in_order(state.stamp_s, self._robot[-1].stamp_s if self._robot else None):
            self._robot.append(state)
            self._grips.update(state.stamp_s, state.gripper_opening_m)
            while self._robot[0].stamp_s < state.stamp_s - HISTORY_S - SAME_INSTANT_S:
                self._robot.popleft()

    def intervention(self, state: InterventionState) -> None:
        """Takes what the gate does."""
        if not np.isfinite(state.stamp_s):
            self.refused["intervention state that is not finite"] += 1
        elif self._in_order(state.stamp_s, self._states[-1].stamp_s if self._states else None):
            self._states.append(state)
            while self._states[0].stamp_s < state.stamp_s - HISTORY_S - SAME_INSTANT_S:
                self._states.popleft()

    def policy(self, output: PolicyOutput) -> None:
        """Takes a policy output; one whose chunk is no trajectory of this arm is refused."""
        chunk = output.chunk
        times = np.asarray(chunk.time_from_start_s)
        if (
            times.ndim != 1
            or len(times) == 0
            or np.shape(chunk.joint_position_rad) != (len(times), self._joints)
            or np.shape(chunk.gripper_opening_m) != (len(times),)
        ):
            self.refused["policy output of the wrong shape"] += 1
        elif not (
            np.isfinite(output.stamp_s)
            and np.isfinite(times).all()
            and (np.diff(times) > 0).all()
            and np.isfinite(chunk.joint_position_rad).all()
        ):
            self.refused["policy output that is not finite or not increasing in time"] += 1
        elif self._in_order(output.stamp_s, self._plans[-1].output.stamp_s if self._plans else None):
            reference, path_time_s = self._followed(output.stamp_s)
            self._plans.append(
                Plan(
                    output=output,
                    tool=self._body.links(chunk.joint_position_rad)[:, -1],
                    reference=replace(reference, reference=None) if reference is not None else None,
                    reference_path_time_s=path_time_s,
                )
            )

    def points(self, cloud: PointCloud) -> None:
        """Takes a depth cloud; one in a frame that is not in the robot's description is refused."""
        if cloud.frame_id not in self._body.frames:
            self.refused[f"point cloud in the unknown frame '{cloud.frame_id}'"] += 1
        elif (
            np.ndim(cloud.points_m) != 2 or np.shape(cloud.points_m)[1] != 3 or not np.isfinite(cloud.stamp_s)
        ):
            self.refused["point cloud of the wrong shape"] += 1
        elif self._in_order(cloud.stamp_s, self._cloud.stamp_s if self._cloud is not None else None):
            self._cloud = cloud
            self._scenery = None

    def view(self, now_s: float) -> View:
        """The newest inputs at ``now_s``."""
        limits = self._settings
        motion = (
            self._motion() if self._robot and self._fresh(self._robot[-1].stamp_s, now_s, "robot") else None
        )
        plans = [p for p in self._plans if now_s - p.output.stamp_s <= limits.policy_max_age_s]
        followed, path_time_s = self._followed(now_s) if plans else (None, float("nan"))
        rows = [] if motion is None else [motion.position_rad[[-1, motion.since(RECENT_S).start, 0]]]
        if followed is not None:
            ahead = followed.joints_at(path_time_s + np.array(AHEAD_S))
            rows.append(ahead if motion is None else ahead + (motion.position_rad[-1] - ahead[0]))
        # One call for all: forward kinematics costs the same for one configuration as for ten.
        links = self._body.links(np.concatenate(rows) if rows else np.empty((0, self._joints)))
        state = self._states[-1] if self._states else None
        cloud = self._cloud
        if cloud is not None and motion is not None and self._scenery is None:
            self._scenery = Scene(self._body, limits).scenery(cloud, motion)
            self._sceneries.append(self._scenery)
            while self._sceneries[0].stamp_s < cloud.stamp_s - HISTORY_S - SAME_INSTANT_S:
                self._sceneries.popleft()
        scenery = self._scenery if cloud is not None and self._fresh(cloud.stamp_s, now_s, "points") else None
        return View(
            now_s=now_s,
            settings=limits,
            body=self._body,
            motion=motion,
            links=None if motion is None else links[0],
            tool_before_m=None if motion is None else links[1, -1, :3, 3],
            links_before=None if motion is None else links[2],
            plan=plans[-1] if plans else None,
            followed=followed,
            path_time_s=path_time_s,
            links_ahead=None if followed is None else links[-len(AHEAD_S) :],
            before=self._plans[-2].output if plans and len(self._plans) > 1 else None,
            scenery=scenery if motion is not None else None,
            sceneries=tuple(self._sceneries) if scenery is not None and motion is not None else (),
            grips=self._grips.count,
            latents=self._latents,
            intervention=state
            if state is not None and self._fresh(state.stamp_s, now_s, "intervention")
            else None,
        )

    def stale(self, now_s: float) -> tuple[str, ...]:
        """Names of the inputs that never came or are too old at ``now_s``."""
        newest = {
            "robot": self._robot[-1].stamp_s if self._robot else -np.inf,
            "policy": self._plans[-1].output.stamp_s if self._plans else -np.inf,
            "points": self._cloud.stamp_s if self._cloud is not None else -np.inf,
            "intervention": self._states[-1].stamp_s if self._states else -np.inf,
        }
        return tuple(name for name, stamp_s in newest.items() if not self._fresh(stamp_s, now_s, name))

    def _fresh(self, stamp_s: float, now_s: float, name: str) -> bool:
        return bool(now_s - stamp_s <= getattr(self._settings, f"{name}_max_age_s"))

    def _in_order(self, stamp_s: float, newest_s: float | None) -> bool:
        if newest_s is None or stamp_s > newest_s:
            return True
        if stamp_s < newest_s - CLOCK_JUMP_S:
            self.clear()
            return True
        self.refused["message older than the one before it"] += 1
        return False

    def _followed(self, at_s: float) -> tuple[Plan | None, float]:
        """The plan in execution at ``at_s`` and the time on its path, or ``(None, nan)``."""
        if not self._plans:
            return None, float("nan")
        state = next((s for s in reversed(self._states) if s.stamp_s <= at_s), None)
        if (
            state is not None
            and self._fresh(state.stamp_s, at_s, "intervention")
            and np.isfinite([state.path_time_s, state.speed_scale]).all()
        ):
            for plan in reversed(self._plans):
                if plan.output.sequence == state.sequence:
                    return plan, state.path_time_s + state.speed_scale * (at_s - state.stamp_s)
        newest = self._plans[-1]
        return newest, at_s - newest.output.stamp_s

    def _motion(self) -> Motion:
        states = self._robot
        stamps = np.array([s.stamp_s for s in states])
        positions = np.stack([s.joint_position_rad for s in states])
        velocities = np.stack([s.joint_velocity_rad_s for s in states])
        missing = ~np.isfinite(velocities)
        if missing.any() and len(states) > 1:
            velocities = np.where(missing, np.gradient(positions, stamps, axis=0), velocities)
        return Motion(
            stamp_s=stamps,
            position_rad=positions,
            velocity_rad_s=velocities,
            effort_nm=np.stack([s.joint_effort_nm for s in states]),
            opening_m=np.array([s.gripper_opening_m for s in states], float),
        )
