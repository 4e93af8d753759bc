"""What stands between commands and motors: an arm controller that behaves as ros2_control's joint
trajectory controller does, and a gripper that moves at the hand's speed."""

from __future__ import annotations

import bisect
from collections.abc import Sequence

import numpy as np

from salus_ros.errors import SalusError
from salus_ros.types import Floats, JointTrajectory


class ArmController:
    """Interpolates between the points of a trajectory and holds the last one on silence.

    Segments with finite velocities at both ends are cubic, others linear. A new trajectory starts
    from the state that is desired when it arrives, not from the measured one.
    """

    def __init__(self, joint_names: Sequence[str]) -> None:
        self.joint_names = tuple(joint_names)
        self.reset(np.zeros(len(self.joint_names)))

    def reset(self, position_rad: Floats) -> None:
        """Hold a position (J,) and forget every trajectory."""
        self._elapsed_s = 0.0
        self._times = [0.0]
        self._position = np.array([position_rad])
        self._velocity = np.zeros_like(self._position)

    def accept(self, trajectory: JointTrajectory, joint_names: Sequence[str] | None = None) -> None:
        """Replace the trajectory in hand; its times count from now.

        Args:
            trajectory: points; velocities that are nan are not used.
            joint_names: order of its columns; default: the arm's own order.

        Raises:
            SalusError: unknown, missing or doubled joints, wrong shapes, values that are not finite,
                times that fall or are negative, or a last velocity that is not zero. The trajectory in
                hand stays as it is.
        """
        times, position, velocity = self._checked(trajectory, joint_names)
        if times[0] > 0.0:
            now_position, now_velocity = self.desired()
            times = np.concatenate([[0.0], times])
            position = np.concatenate([[now_position], position])
            velocity = np.concatenate([[now_velocity], velocity])
        self._elapsed_s = 0.0
        self._times, self._position, self._velocity = times.tolist(), position, velocity

    def advance(self, step_s: float) -> None:
        """Let time pass."""
        self._elapsed_s += step_s

    def desired(self) -> tuple[Floats, Floats]:
        """Desired position (J,) in rad and velocity (J,) in rad/s now."""
        t = self._elapsed_s
        if t >= self._times[-1]:
            return self._position[-1], np.zeros(len(self.joint_names))
        i = bisect.bisect_right(self._times, t) - 1
        duration = self._times[i + 1] - self._times[i]
        u = (t - self._times[i]) / duration
        p0, p1 = self._position[i], self._position[i + 1]
        v0, v1 = self._velocity[i], self._velocity[i + 1]
        slope = (p1 - p0) / duration
        if not (np.isfinite(v0).all() and np.isfinite(v1).all()):
            return p0 + u * (p1 - p0), slope
        # Cubic Hermite polynomial in u, written by its coefficients.
        a = duration * (v0 + v1) - 2.0 * (p1 - p0)
        b = 3.0 * (p1 - p0) - duration * (2.0 * v0 + v1)
        position = p0 + u * (duration * v0 + u * (b + u * a))
        return position, v0 + u * (2.0 * b + 3.0 * u * a) / duration

    def _checked(
        self, trajectory: JointTrajectory, joint_names: Sequence[str] | None
    ) -> tuple[Floats, Floats, Floats]:
        joints = len(self.joint_names)
        order = list(range(joints))
        if joint_names is not None:
            if sorted(joint_names) != sorted(self.joint_names):
                raise SalusError(
                    f"The trajectory names the joints {', '.join(joint_names) or '(none)'}, but the "
                    f"controller moves {', '.join(self.joint_names)}; name each of these once."
                )
            order = [list(joint_names).index(name) for name in self.joint_names]
        times = np.array(trajectory.time_from_start_s, dtype=np.float64)
        position = np.array(trajectory.position_rad, dtype=np.float64)
        velocity = np.array(trajectory.velocity_rad_s, dtype=np.float64)
        points = times.size
        if points == 0 or times.shape != (points,) or position.shape != (points, joints):
            raise SalusError(
                f"The trajectory has times {times.shape} and positions {position.shape}, but expected "
                f"(N,) and (N, {joints}) with at least one point."
            )
        if velocity.shape != position.shape:
            raise SalusError(
                f"The trajectory has velocities {velocity.shape} but positions {position.shape}; "
                "give one velocity per position, nan where there is none."
            )
        if not (np.isfinite(times).all() and np.isfinite(position).all()) or np.isinf(velocity).any():
            raise SalusError("The trajectory holds values that are not finite; send finite ones.")
        if times[0] < 0.0 or (np.diff(times) <= 0.0).any():
            raise SalusError(
                "The trajectory's times are negative or do not rise; give rising times from 0 on."
            )
        if (np.abs(velocity[-1]) > 1e-9).any():
            raise SalusError("The trajectory's last velocity is not zero; end every command in rest.")
        return times, position[:, order], velocity[:, order]


class GripperController:
    """Moves the commanded opening at the hand's own speed."""

    def __init__(self, speed_m_s: float, largest_opening_m: float) -> None:
        self._speed_m_s = speed_m_s
        self._largest_m = largest_opening_m
        self.reset(largest_opening_m)

    def reset(self, opening_m: float) -> None:
        """Hold an opening."""
        self.commanded_m = opening_m
        self.reference_m = opening_m

    def accept(self, opening_m: float, measured_m: float | None = None) -> None:
        """Take a new opening, limited to what the hand can do.

        Args:
            opening_m: distance between the fingertips that is wanted.
            measured_m: the distance now. A hand that squeezes something has a reference far inside
                it; opening starts from the measured distance.

        Raises:
            SalusError: the opening is not finite.
        """
        if not np.isfinite(opening_m):
            raise SalusError(
                f"The gripper opening is {opening_m}, but expected metres from 0 to {self._largest_m}."
            )
        opening_m = min(max(float(opening_m), 0.0), self._largest_m)
        if measured_m is not None and opening_m > self.commanded_m:
            self.reference_m = max(self.reference_m, min(measured_m, opening_m))
        self.commanded_m = opening_m

    def advance(self, step_s: float) -> None:
        """Let time pass."""
        most = self._speed_m_s * step_s
        self.reference_m += min(max(self.commanded_m - self.reference_m, -most), most)
