"""The policy as a lifecycle node: images, joint states and an instruction in, ``PolicyOutput`` out."""

from __future__ import annotations

import gc
import sys
import threading
import time
from collections import Counter
from functools import partial
from typing import Final

import numpy as np
from pydantic import BaseModel, ConfigDict, Field
from sensor_msgs.msg import Image as ImageMessage
from sensor_msgs.msg import JointState
from std_msgs.msg import String

from salus_msgs.msg import PolicyOutput as PolicyOutputMessage
from salus_msgs.srv import RequestReplan
from salus_ros.nodes import diagnostics, qos
from salus_ros.nodes.conversions import policy_output_to_message
from salus_ros.nodes.inference import InferenceThread
from salus_ros.nodes.lifecycle import ManagedNode, run_node
from salus_ros.nodes.parameters import declare
from salus_ros.nodes.policy_inputs import JOINT_STATES_KEPT, InputSettings, PolicyInputs
from salus_ros.nodes.robot import Robot, RobotSettings
from salus_ros.policy.base import Policy
from salus_ros.policy.registry import DEFAULT, load_policy
from salus_ros.types import Observation, PolicyOutput, RobotState

WARM_UP_RUNS: Final = 3
WARM_UP_IMAGE: Final = np.zeros((96, 96, 3), np.uint8)
CHECK_PERIOD_S: Final = 0.1


class PolicyNodeSettings(BaseModel):
    """Which policy runs, how often, and on what."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    policy: str = Field(
        DEFAULT, description="A checkpoint folder, one shipped with salus_ros, a policy's name, or name:path."
    )
    seed: int = Field(
        0, ge=0, description="Seeds what the policy samples; setting it forgets the past and draws afresh."
    )
    period_s: float = Field(0.2, gt=0, description="Time between the observations of two outputs [s].")
    inference_deadline_s: float = Field(
        1.0, gt=0, description="An inference that takes longer is reported as a fault and thrown away [s]."
    )
    threads: int = Field(1, ge=1, description="Threads of one inference; more help on an idle machine only.")
    instruction: str = Field("", description="Instruction until one arrives on salus/instruction.")
    inputs: InputSettings = InputSettings()
    robot: RobotSettings = RobotSettings()


class PolicyNode(ManagedNode):
    """Infers on the newest observation once in ``period_s`` of the observations' own time.

    Without a complete and fresh observation it publishes nothing and says which input is missing.
    """

    def __init__(self, name: str = "policy_node") -> None:
        super().__init__(name, polls_clock=True)
        self._settings = declare(self, PolicyNodeSettings, apply=self._apply, changeable=["seed"])
        self._robot = Robot.load(self._settings.robot)
        self._inputs = PolicyInputs(self._settings.inputs, self._robot, self._settings.instruction)
        self._policy: Policy | None = None
        self._thread: InferenceThread | None = None
        self._last_stamp_s = -float("inf")
        self._complaint = ""
        self._fault, self._hangs = "", False
        self._inference_time_s = float("nan")
        self._counts: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._publisher = self.create_lifecycle_publisher(
            PolicyOutputMessage, qos.POLICY_OUTPUT, qos.profile(qos.POLICY_OUTPUT)
        )
        self._subscribe()
        self.create_service(
            RequestReplan,
            qos.REQUEST_REPLAN,
            self.guard(self._replan, fallback=_refusal("the policy node failed")),
        )
        self.create_steady_timer(CHECK_PERIOD_S, self._check)
        self._diagnostics = diagnostics.Diagnostics(self, self._health)

    def _subscribe(self) -> None:
        for camera in self._settings.inputs.cameras:
            topic = f"camera/{camera}/image_raw"
            known = topic if topic in qos.TABLE else qos.FRONT_IMAGE
            self.create_subscription(
                ImageMessage, topic, self.when_active(partial(self._take_image, camera)), qos.profile(known)
            )
        self.create_polled_subscription(
            JointState,
            qos.JOINT_STATES,
            self.when_active(self._take_joint_state),
            qos.profile(qos.JOINT_STATES, depth=JOINT_STATES_KEPT),
        )
        self.create_subscription(
            String, qos.INSTRUCTION, self.guard(self._take_instruction), qos.profile(qos.INSTRUCTION)
        )

    # Transitions

    def configure(self) -> None:
        """Load the policy and let it infer a few times, so that the first real inference is no slower."""
        policy = load_policy(self._settings.policy, seed=self._settings.seed)
        if (torch := sys.modules.get("torch")) is not None:  # a policy of another kind does without
            torch.set_num_threads(self._settings.threads)
        begun_s = time.perf_counter()
        for _ in range(WARM_UP_RUNS):
            policy.act(self._warm_up_observation())
        each_s = (time.perf_counter() - begun_s) / WARM_UP_RUNS
        policy.reset()
        # What is loaded stays: the collector need not look at it again during an inference.
        gc.collect()
        gc.freeze()
        self.get_logger().info(
            f"policy {policy.name} ({policy.hash}): {each_s:.3f} s for a warm-up inference"
        )
        self._policy = policy

    def activate(self) -> None:
        """Start to infer, without memory of what was before."""
        assert self._policy is not None
        self._inputs = PolicyInputs(self._settings.inputs, self._robot, self._inputs.instruction)
        self._last_stamp_s = -float("inf")
        self._fault, self._hangs = "", False
        self._thread = InferenceThread(self._policy, self._publish, self._take_fault)
        self._thread.reset(self._settings.seed)

    def deactivate(self) -> None:
        """Publish nothing more."""
        if self._thread is not None:
            self._thread.close()
            self._thread = None

    def cleanup(self) -> None:
        """Give the policy's memory back."""
        self._policy = None

    def close(self) -> None:
        """End the inference thread."""
        self.deactivate()

    def _warm_up_observation(self) -> Observation:
        arm = self._robot.arm
        middle = 0.5 * (arm.position_lower_rad + arm.position_upper_rad)
        zeros = np.zeros(len(arm.joint_names))
        return Observation(
            stamp_s=0.0,
            robot=RobotState(0.0, middle, zeros, zeros, 0.08),
            images={camera: WARM_UP_IMAGE for camera in self._settings.inputs.cameras},
            # The one that will come, where it is known: a GPU prepares for each length of a prompt apart.
            instruction=self._settings.instruction or "warm up",
        )

    def _apply(self, settings: PolicyNodeSettings) -> None:
        self._settings = settings
        if self._thread is not None:
            self._thread.reset(settings.seed)

    # Inputs

    def _take_image(self, camera: str, message: ImageMessage) -> None:
        self._inputs.take_image(camera, message, time.monotonic())
        self._infer_if_due()

    def _take_joint_state(self, message: JointState) -> None:
        self._inputs.take_joint_state(message, time.monotonic())

    def _take_instruction(self, message: String) -> None:
        """A new instruction begins a new task, also when it says the same: the past is forgotten."""
        self._inputs.instruction = message.data.strip()
        if self._thread is not None:
            self._thread.reset(self._settings.seed)
            self._last_stamp_s = -float("inf")

    def _replan(
        self, request: RequestReplan.Request, response: RequestReplan.Response
    ) -> RequestReplan.Response:
        if not self.active or self._thread is None:
            response.accepted, response.message = False, "the policy node is not active"
            return response
        self._counts["replans"] += 1
        self.get_logger().info(f"replan after output {request.after_sequence}: {request.reason}")
        self._thread.reset(commit=request.commit, lift_m=request.lift_m)
        self._last_stamp_s = -float("inf")
        self._infer_if_due()
        response.accepted = True
        return response

    def _check(self) -> None:
        """Notices the silence of an input, which no callback would."""
        self.poll()
        if self._thread is not None:
            fault = self._thread.overdue(time.monotonic(), self._settings.inference_deadline_s)
            if fault:
                self._take_fault(fault, goes_on=self._hangs)
            self._hangs = bool(fault)
        if self.active:
            self._complaint = self._inputs.complaint(time.monotonic())
            if self._complaint:
                self._counts["checks with an input missing"] += 1
                self.log_throttled(f"nothing is published: {self._complaint}", key="complaint")

    # Inference

    def _infer_if_due(self) -> None:
        stamp_s = self._inputs.stamp_s
        # A hair early counts as due: images do not come at exact multiples of the period.
        backwards = stamp_s < self._last_stamp_s
        due = backwards or stamp_s >= self._last_stamp_s + 0.95 * self._settings.period_s
        if not due or self._thread is None or not np.isfinite(stamp_s):
            return
        self.poll()
        self._complaint = self._inputs.complaint(time.monotonic())
        if self._complaint:
            return
        if self._thread.busy:
            self._counts["inferences late"] += 1
            return
        self._last_stamp_s = stamp_s
        self._thread.submit(self._inputs.snapshot())

    def _publish(self, output: PolicyOutput) -> None:
        message = policy_output_to_message(output, self._robot.arm.joint_names, self._robot.arm.base_frame)
        with self._lock:
            self._fault = ""
            self._inference_time_s = output.inference_time_s
            self._counts["outputs"] += 1
        self._publisher.publish(message)

    def _take_fault(self, fault: str, *, goes_on: bool = False) -> None:
        """``goes_on``: it was counted when it began."""
        with self._lock:
            self._fault = fault
            self._counts["faults"] += not goes_on
        self.log_throttled(f"nothing is published: {fault}", key="fault", level="error")

    def _health(self) -> diagnostics.Health:
        with self._lock:
            fault, inference_time_s, counts = self._fault, self._inference_time_s, dict(self._counts)
        values = {"inference time [s]": inference_time_s, **counts}
        if not self.active:
            return diagnostics.Health(diagnostics.OK, "not active", values)
        if fault:
            return diagnostics.Health(diagnostics.ERROR, fault, values)
        if self._complaint:
            return diagnostics.Health(diagnostics.WARN, self._complaint, values)
        return diagnostics.Health(diagnostics.OK, "running", values)


def _refusal(reason: str) -> RequestReplan.Response:
    return RequestReplan.Response(accepted=False, message=reason)


def main() -> int:
    """Entry point of ``ros2 run salus_ros policy_node``."""
    return run_node(PolicyNode)


if __name__ == "__main__":
    sys.exit(main())
