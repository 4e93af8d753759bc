"""The simulator as the drivers of a real arm: joint states, cameras and depth out, trajectories in."""

from __future__ import annotations

import sys
import time
from collections import Counter
from dataclasses import replace
from typing import Any, Final

import numpy as np
from pydantic import BaseModel, ConfigDict, Field
from rosgraph_msgs.msg import Clock as ClockMessage
from sensor_msgs.msg import CameraInfo, Image, JointState, PointCloud2
from std_msgs.msg import String
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory as JointTrajectoryMessage

from salus_msgs.msg import EpisodeEvent as EpisodeEventMessage
from salus_msgs.srv import ResetSimulation
from salus_ros.errors import SalusError
from salus_ros.nodes import diagnostics, qos
from salus_ros.nodes.cameras import camera_info, image_to_message, points_to_message
from salus_ros.nodes.conversions import episode_event_to_message
from salus_ros.nodes.driver_messages import (
    NANOSECONDS,
    gripper_from_message,
    robot_state_to_message,
    stamp_from_message,
    trajectory_from_message,
)
from salus_ros.nodes.gate_rest import GateRest
from salus_ros.nodes.lifecycle import GuardedNode, run_node
from salus_ros.nodes.pacing import Pacer
from salus_ros.nodes.parameters import declare
from salus_ros.nodes.robot import RobotSettings
from salus_ros.sim.simulation import CONTROL_PERIOD_S, SimSettings, Simulation
from salus_ros.types import JointTrajectory

STEP_NS: Final = round(CONTROL_PERIOD_S * NANOSECONDS)
CAMERAS: Final = {
    "front": (qos.FRONT_IMAGE, qos.FRONT_INFO),
    "wrist": (qos.WRIST_IMAGE, qos.WRIST_INFO),
}


class SimNodeSettings(BaseModel):
    """How the simulation runs and what it starts with."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    real_time_factor: float = Field(
        1.0, ge=0, le=100, description="Simulated time per wall time; 0 runs as fast as possible."
    )
    seed: int = Field(0, ge=0, description="Seed of the first scene.")
    task: str = Field("bin", description="Task of the first scene.")
    disturbance: str = Field("", description="Disturbance of the first episode; empty for none.")
    image_period_s: float = Field(0.1, ge=0.01, description="Time between two images of each camera [s].")
    points_period_s: float = Field(0.1, ge=0.01, description="Time between two depth clouds [s].")
    finger_joints: tuple[str, ...] = Field(
        RobotSettings().finger_joints,
        description="Joints whose positions add up to the gripper's opening [m].",
    )
    sim: SimSettings = SimSettings()


class SimNode(GuardedNode):
    """Steps the simulation by the wall clock and carries its messages.

    Simulated time starts at the wall clock's time, never goes back, and goes on over resets.
    """

    def __init__(self, name: str = "sim_node") -> None:
        super().__init__(name)
        self._settings = declare(self, SimNodeSettings)
        self._simulation = Simulation(self._settings.sim)
        self._arm = self._simulation.arm_model
        self._counts: Counter[str] = Counter()
        self._stopped = False
        self._ticks = 0
        self._clock_ticks = self.create_publisher(ClockMessage, qos.CLOCK, qos.profile(qos.CLOCK))
        self._joint_states = self.create_publisher(
            JointState, qos.JOINT_STATES, qos.profile(qos.JOINT_STATES)
        )
        self._images = {
            camera: (
                self.create_publisher(Image, image, qos.profile(image)),
                self.create_publisher(CameraInfo, info, qos.profile(info)),
            )
            for camera, (image, info) in CAMERAS.items()
        }
        self._points = self.create_publisher(PointCloud2, qos.FRONT_POINTS, qos.profile(qos.FRONT_POINTS))
        self._events = self.create_publisher(
            EpisodeEventMessage, qos.EPISODE_EVENT, qos.profile(qos.EPISODE_EVENT)
        )
        self._instruction = self.create_publisher(String, qos.INSTRUCTION, qos.profile(qos.INSTRUCTION))
        for topic, callback in (
            (qos.ARM_COMMAND, self._command_arm),
            (qos.GRIPPER_COMMAND, self._command_gripper),
        ):
            self.create_polled_subscription(
                JointTrajectoryMessage, topic, self.guard(callback), qos.profile(topic)
            )
        failed = "the simulator failed; see its log"
        self.create_service(
            ResetSimulation,
            qos.SIM_RESET,
            self.guard(self._serve_reset, fallback=ResetSimulation.Response(accepted=False, message=failed)),
        )
        trouble = Trigger.Response(success=False, message=failed)
        self.create_service(Trigger, qos.DRIVER_STOP, self.guard(self._serve_stop, fallback=trouble))
        self.create_service(Trigger, qos.DRIVER_RESUME, self.guard(self._serve_resume, fallback=trouble))
        self._gate_rest = GateRest(self)
        self._diagnostics = diagnostics.Diagnostics(self, self._health)
        self._warm_up()
        self._now_ns = time.time_ns() // STEP_NS * STEP_NS
        self._reset(self._settings.seed, self._settings.task, self._settings.disturbance)
        self._render()
        self._pacer = Pacer(CONTROL_PERIOD_S, self._settings.real_time_factor, time.monotonic())
        self.create_steady_timer(self._pacer.wait_s, self._tick)

    # Time

    def _warm_up(self) -> None:
        """Before time runs: the first rendering takes long, and what is stamped is to be sent at once."""
        self._simulation.reset(self._settings.seed, self._settings.task, self._settings.disturbance)
        self._simulation.observe()
        self._simulation.point_cloud()

    def _tick(self) -> None:
        slips = self._pacer.slips
        if self._pacer.due(time.monotonic()):
            self._step()
        if self._pacer.slips > slips:
            self.log_throttled(
                f"the machine is too slow: simulated time fell {self._pacer.lost_s:.2f} s behind",
                key="slip",
            )

    def _step(self) -> None:
        self.poll()
        simulation = self._simulation
        for event in simulation.step():
            self._events.publish(
                episode_event_to_message(replace(event, stamp_s=self._to_ros_s(event.stamp_s)))
            )
        self._ticks += 1
        self._now_ns += STEP_NS
        clock = ClockMessage()
        clock.clock.sec, clock.clock.nanosec = divmod(self._now_ns, NANOSECONDS)
        self._clock_ticks.publish(clock)
        state = replace(simulation.robot_state(), stamp_s=self._now_s)
        self._joint_states.publish(
            robot_state_to_message(state, self._arm.joint_names, self._settings.finger_joints)
        )
        # Depth half a period after the images, so that no single step renders everything.
        images = round(self._settings.image_period_s / CONTROL_PERIOD_S)
        points = round(self._settings.points_period_s / CONTROL_PERIOD_S)
        if self._ticks % images == 0:
            self._render()
        if (self._ticks + points // 2) % points == 0:
            self._points.publish(points_to_message(replace(simulation.point_cloud(), stamp_s=self._now_s)))

    def _render(self) -> None:
        size = self._settings.sim.image_size_px
        for camera, image in self._simulation.observe().images.items():
            images, infos = self._images[camera]
            frame = f"{camera}_optical_frame"
            fovy_rad = float(np.deg2rad(self._simulation.camera_fovy_deg(camera)))
            images.publish(image_to_message(image, self._now_s, frame))
            infos.publish(camera_info(self._now_s, frame, size, size, fovy_rad))

    @property
    def _now_s(self) -> float:
        return self._now_ns / NANOSECONDS

    def _to_ros_s(self, episode_s: float) -> float:
        return self._origin_ns / NANOSECONDS + episode_s

    # Commands

    def _command_arm(self, message: JointTrajectoryMessage) -> None:
        if self._stopped:
            self._counts["commands ignored while stopped"] += 1
            return
        try:
            trajectory = trajectory_from_message(message, self._arm.joint_names)
            self._simulation.arm.accept(self._from_now(trajectory, message))
        except SalusError as error:
            self._counts["commands refused"] += 1
            self.log_throttled(f"command refused: {error}", key="refused")
            return
        self._counts["commands"] += 1

    def _from_now(self, trajectory: JointTrajectory, message: JointTrajectoryMessage) -> JointTrajectory:
        """Times counted from now: a stamp of zero means reception, as for ros2_control."""
        stamp_s = stamp_from_message(message.header.stamp)
        if stamp_s == 0.0:
            return trajectory
        times = trajectory.time_from_start_s + (stamp_s - self._now_s)
        ahead = times > 0.0
        if not ahead.any():
            raise SalusError(
                f"The trajectory ended {-times[-1]:.2f} s ago; send one that ends in the future."
            )
        return JointTrajectory(times[ahead], trajectory.position_rad[ahead], trajectory.velocity_rad_s[ahead])

    def _command_gripper(self, message: JointTrajectoryMessage) -> None:
        try:
            self._simulation.gripper.accept(gripper_from_message(message, self._settings.finger_joints))
        except SalusError as error:
            self._counts["commands refused"] += 1
            self.log_throttled(f"gripper command refused: {error}", key="refused")

    # Services

    def _serve_reset(
        self, request: ResetSimulation.Request, response: ResetSimulation.Response
    ) -> ResetSimulation.Response:
        try:
            response.instruction = self._reset(request.seed, request.task or "bin", request.disturbance)
            response.accepted = True
        except SalusError as error:
            response.accepted, response.message = False, str(error)
        return response

    def _reset(self, seed: int, task: str, disturbance: str) -> str:
        scene = self._simulation.reset(seed, task, disturbance)
        self._origin_ns = self._now_ns
        self._instruction.publish(String(data=scene.instruction))
        return scene.instruction

    def _serve_stop(self, _request: Any, response: Any) -> Any:
        """Decelerate as hard as the limits allow and take no command until resumed."""
        state = self._simulation.robot_state()
        position, velocity = state.joint_position_rad, state.joint_velocity_rad_s
        duration_s = max(
            float(np.max(np.abs(velocity) / self._arm.acceleration_limit_rad_s2)), CONTROL_PERIOD_S
        )
        self._simulation.arm.accept(
            JointTrajectory(
                np.array([0.0, duration_s]),
                np.array([position, position + 0.5 * velocity * duration_s]),
                np.array([velocity, np.zeros_like(velocity)]),
            )
        )
        self._stopped = True
        self._counts["driver stops"] += 1
        response.success, response.message = True, "stopped; call driver/resume to take commands again"
        return response

    def _serve_resume(self, _request: Any, response: Any) -> Any:
        self._stopped = False
        response.success = True
        return response

    @property
    def stopped(self) -> bool:
        """Joint states, time and the driver's stop are there until the gate has brought the arm to rest."""
        return self._gate_rest.given and self._gate_rest.done_with(qos.DRIVER_STOP)

    def _health(self) -> diagnostics.Health:
        values = {
            "simulated time given up [s]": self._pacer.lost_s,
            "slips": self._pacer.slips,
            "outcome": self._simulation.outcome,
            **self._counts,
        }
        if self._stopped:
            return diagnostics.Health(diagnostics.WARN, "stopped by driver/stop", values)
        return diagnostics.Health(diagnostics.OK, "running", values)


def main() -> int:
    """Entry point of ``ros2 run salus_ros sim_node``."""
    return run_node(SimNode)


if __name__ == "__main__":
    sys.exit(main())
