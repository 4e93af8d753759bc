"""Every number of the gate that an owner could want to change."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator


class GateSettings(BaseModel):
    """Settings of the gate. Flat, so that ROS parameters are declared from it one to one."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    # The loop
    period_s: float = Field(0.01, gt=0, le=0.05, description="Control period [s].")
    lead_s: float = Field(
        0.03,
        gt=0,
        le=0.1,
        description="Every command keeps its speed for this long before its own stop begins, so that a "
        "message that comes late does not brake the arm [s].",
    )
    overruns_to_hold: int = Field(3, ge=1, description="Missed control periods in a row that lead to HOLD.")
    overrun_factor: float = Field(
        2.0,
        gt=1,
        description="A tick later than this many periods after the last one missed its period; one that is "
        "later by a multiple of it missed as many.",
    )
    clock_stall_s: float = Field(
        0.2, gt=0, description="The ROS clock may stand still for this long before time is unsound [s]."
    )
    clock_jump_s: float = Field(
        0.2,
        gt=0,
        description="A ROS clock that gains more than this on steady time between two ticks, beyond twice "
        "its step, has jumped [s].",
    )

    # The path
    path_tolerance_rad: float = Field(
        0.02, gt=0, le=0.1, description="The executed path stays this close to the policy's points [rad]."
    )
    blend_s: float = Field(0.15, ge=0.1, le=0.15, description="Path time over which chunks are joined [s].")
    blend_rad: float = Field(
        0.1, gt=0, le=0.1, description="Farthest that two chunks may lie apart where they are joined [rad]."
    )
    entry_window_s: float = Field(
        0.2, ge=0, description="A chunk is entered at most this far from the path time due [s]."
    )
    entry_time_weight_rad_s: float = Field(
        0.05,
        ge=0,
        description="Entering a chunk one second from the path time due counts as this distance [rad/s]; "
        "it decides where the chunk stands still.",
    )
    plan_age_max_s: float = Field(
        0.6, gt=0, description="An older plan is refused on arrival, counted from its observation [s]."
    )
    stamp_ahead_max_s: float = Field(
        0.05, ge=0, description="How far a stamp may lie ahead of the ROS clock [s]."
    )
    prediction_age_max_s: float = Field(
        0.5, gt=0, description="An older failure prediction is refused on arrival [s]."
    )
    joint_state_age_max_s: float = Field(
        0.2, gt=0, description="Older joint states are refused on arrival [s]."
    )
    plan_points_max: int = Field(400, ge=2, description="Longer chunks are refused [points].")

    # The limits
    position_margin_rad: float = Field(
        0.005, ge=0, description="Plans end this far inside the joints' position limits [rad]."
    )
    velocity_fraction: float = Field(
        0.9, gt=0, le=1, description="Share of the joints' velocity limits that is used."
    )
    acceleration_fraction: float = Field(
        0.8, gt=0, le=0.9, description="Share of the joints' acceleration limits that is used."
    )
    braking_share: float = Field(
        0.2,
        gt=0,
        lt=1,
        description="Least share of the acceleration kept for braking on the path, whatever its curves ask.",
    )
    braking_rate_max_s: float = Field(
        20.0, gt=0, description="Fastest change of the speed scale when slowing, however slow the path [1/s]."
    )
    speeding_up_rate_s: float = Field(
        2.0, gt=0, description="Fastest change of the speed scale when speeding up [1/s]."
    )
    workspace_lower_m: tuple[float, float, float] = Field(
        (-0.4, -0.9, -0.01), description="Lower corner of the box the tool may be in, base frame [m]."
    )
    workspace_upper_m: tuple[float, float, float] = Field(
        (0.95, 0.9, 1.3), description="Upper corner of the box the tool may be in, base frame [m]."
    )
    gripper_opening_max_m: float = Field(
        0.08, gt=0, description="Widest opening that is commanded; wider is clipped [m]."
    )

    # The watchdogs
    joint_state_deadline_s: float = Field(0.05, gt=0, description="EMERGENCY_STOP after this silence [s].")
    policy_deadline_s: float = Field(0.3, gt=0, description="HOLD after this silence [s].")
    prediction_slow_deadline_s: float = Field(0.15, gt=0, description="SLOW_DOWN after this silence [s].")
    prediction_hold_deadline_s: float = Field(0.3, gt=0, description="HOLD after this silence [s].")
    button: bool = Field(
        False, description="A hardware emergency stop button exists; its heartbeat is supervised."
    )
    button_deadline_s: float = Field(0.5, gt=0, description="EMERGENCY_STOP after this silence [s].")
    bad_plans_to_hold: int = Field(3, ge=1, description="Invalid plans in a row that lead to HOLD.")
    refused_plans_to_replan: int = Field(
        3, ge=1, description="Plans in a row that cannot be joined that lead to REPLAN."
    )
    hold_off_s: float = Field(
        0.5, ge=0, description="All causes of a HOLD must be gone for this long before it ends [s]."
    )

    # The risk
    monitor: Literal["required", "absent"] = Field(
        "required", description="Without a monitor ('absent') the gate does everything but learned risk."
    )
    shadow_mode: bool = Field(
        False, description="Mute learned risk, and only say what it would have done; nothing else is muted."
    )
    late_prediction_speed: float = Field(
        0.3, ge=0, le=1, description="Highest speed scale while the prediction is late."
    )
    stop_horizon_s: float = Field(
        0.3, gt=0, description="A collision foreseen within this horizon stops the arm [s]."
    )
    immediate_stop_horizon_s: float = Field(
        0.2, gt=0, description="A collision foreseen within this horizon needs no persistence [s]."
    )
    stop_risk: float = Field(
        0.5,
        gt=0,
        description="Relative risk (0.5 = at the threshold) of a collision from which the arm stops.",
    )
    replan_risk: float = Field(
        0.5,
        gt=0,
        description="Relative risk of a drop or miss from which a new plan is asked for; a false alarm costs "
        "a second or two, so it may be below that of a stop.",
    )
    stop_persistence: int = Field(2, ge=1, description="Predictions in a row before a protective stop.")
    replan_persistence: int = Field(3, ge=1, description="Predictions in a row before a replan.")
    timeout_risk: float = Field(
        0.9,
        gt=0,
        description="Probability of a time-out from which a new plan is asked for, of one sample of the "
        "policy instead of the mean of all; above 1 never.",
    )
    timeout_persistence: int = Field(
        6, ge=1, description="Predictions in a row before a replan because of a foreseen time-out."
    )
    timeout_grace_s: float = Field(
        2.5,
        ge=0,
        description="A foreseen time-out is not acted on for this long after the arm began to follow: a plan "
        "must have had the time to show where it leads [s].",
    )
    assist_persistence: int = Field(
        6,
        ge=1,
        description="Predictions in a row, at risk and out of the training data, before a person is called.",
    )
    collision_threshold: float = Field(
        0.0, ge=0, le=1, description="Probability that stops the arm; 0 takes the monitor's own threshold."
    )
    drop_threshold: float = Field(
        0.0, ge=0, le=1, description="Probability that asks for a new plan; 0 takes the monitor's own."
    )
    miss_threshold: float = Field(
        0.0, ge=0, le=1, description="Probability that asks for a new plan; 0 takes the monitor's own."
    )
    latch_on_foreseen_collision: bool = Field(
        False, description="Make every foreseen collision an emergency stop that a person must reset."
    )
    slow_risk: float = Field(
        0.3, ge=0, le=1, description="Relative risk (0.5 = at the threshold) from which the arm slows down."
    )
    slow_risk_clear: float = Field(
        0.2, ge=0, le=1, description="Relative risk below which it stops slowing down."
    )
    slow_persistence: int = Field(2, ge=1, description="Predictions in a row before slowing down.")
    slow_clear_s: float = Field(
        0.3, ge=0, description="The risk must stay below for this long to stop slowing down [s]."
    )
    slow_speed: float = Field(
        0.3, ge=0, le=1, description="Speed scale at and above the alarm threshold; 1 at slow_risk."
    )

    # Replanning and assistance
    replan_attempts: int = Field(
        3, ge=0, description="Replans before a person is called; those for a foreseen time-out do not count."
    )
    when_replans_are_used_up: Literal["assist", "go_on"] = Field(
        "assist",
        description="What a drop or miss that is still foreseen leads to then: a call for a person, or no "
        "further replan, at the speed that the risk allows, until attempts are renewed. All else still "
        "calls.",
    )
    protective_stops: int = Field(2, ge=0, description="Protective stops before a person is called.")
    attempts_renew_s: float = Field(
        3.0, ge=0, description="Attempts are renewed after this much path time without intervention [s]."
    )
    replan_timeout_s: float = Field(
        2.0, gt=0, description="Wait this long for a plan that can be joined, then count an attempt [s]."
    )
    replan_interval_s: float = Field(
        0.5,
        gt=0,
        description="A request for a new plan that the policy has refused or not answered is repeated at "
        "this interval [s].",
    )
    replan_grace_s: float = Field(
        0.5,
        ge=0,
        description="Foreseen drops and misses are not acted on for this long after a replan, because the "
        "monitor still looks at the old plan; collisions are [s].",
    )
    retrace_path_s: float = Field(
        0.3, ge=0, le=1.0, description="How much of the driven path a replan retraces [s of path time]."
    )
    retrace_speed: float = Field(0.25, gt=0, le=0.25, description="Speed scale while retracing.")
    lift_m: float = Field(
        0.12,
        ge=0,
        le=0.5,
        description="How far up the policy is asked to go, if it can, before it plans anew after a foreseen "
        "collision or drop; twice as far at the second attempt in a row, and so on, as far as the workspace "
        "box has room [m].",
    )
    assist_timeout_s: float = Field(
        0.0, ge=0, description="Without an answer, an emergency stop after this long; 0 = never [s]."
    )

    # What the arm feels and does
    contact_force_n: float = Field(
        80.0,
        gt=0,
        description="Force at the tool, estimated from the joints' effort, taken for contact. In the shipped "
        "simulator free motion and grasping stay below 45 N [N].",
    )
    contact_persistence_s: float = Field(
        0.1, ge=0, description="The force must last this long to count as contact [s]."
    )
    hard_force_n: float = Field(
        300.0, gt=0, description="Force at the tool that latches an emergency stop [N]."
    )
    hard_force_persistence_s: float = Field(
        0.02, ge=0, description="The force must last this long to latch [s]."
    )
    effort_baseline_s: float = Field(
        0.2, gt=0, description="Time constant of the effort that is taken for normal [s]."
    )
    tracking_slow_rad: float = Field(
        0.06, gt=0, description="Distance of the arm from its recent commands that slows it down [rad]."
    )
    tracking_hold_rad: float = Field(
        0.15, gt=0, description="Distance of the arm from its recent commands that holds it [rad]."
    )
    tracking_window_s: float = Field(
        0.25, gt=0, description="How far back a command counts as recent: longer than the arm's lag [s]."
    )
    tracking_persistence_s: float = Field(
        0.1, ge=0, description="The arm must be off for this long before it counts [s]."
    )
    tracking_speed: float = Field(0.3, ge=0, le=1, description="Highest speed scale while the arm is off.")
    tracking_holds: int = Field(
        2, ge=0, description="Holds for an arm that does not follow its commands before a person is called."
    )
    stall_s: float = Field(
        6.0, gt=0, description="A person is called when this long brought hardly any path time [s]."
    )
    stall_progress: float = Field(
        0.02, ge=0, le=1, description="Path time per time below which the arm counts as stalled."
    )
    standing_rad_s: float = Field(
        0.02, gt=0, description="Joint speed below which the arm counts as standing [rad/s]."
    )
    settle_timeout_s: float = Field(
        0.5, gt=0, description="A hold measures its position when the arm stands, at the latest then [s]."
    )
    held_within_rad: float = Field(
        0.4,
        gt=0,
        description="A hold takes the place that is measured this near to a recent command at most; farther "
        "away it stays on its command, since what is measured there is more likely wrong [rad].",
    )
    jump_margin_rad: float = Field(
        0.05,
        gt=0,
        description="Joint states that lie outside the position limits, or farther apart than the velocity "
        "limits allow, by more than this are impossible [rad].",
    )

    @model_validator(mode="after")
    def _consistent(self) -> GateSettings:
        pairs = (
            ("prediction_slow_deadline_s", "prediction_hold_deadline_s"),
            ("slow_risk_clear", "slow_risk"),
            ("immediate_stop_horizon_s", "stop_horizon_s"),
            ("contact_force_n", "hard_force_n"),
            ("tracking_slow_rad", "tracking_hold_rad"),
            ("tracking_hold_rad", "held_within_rad"),
            ("period_s", "lead_s"),
        )
        for low, high in pairs:
            if getattr(self, low) > getattr(self, high):
                raise ValueError(
                    f"{low} = {getattr(self, low)} is above {high} = {getattr(self, high)}: "
                    f"lower {low} or raise {high}"
                )
        if any(
            not lower < upper
            for lower, upper in zip(self.workspace_lower_m, self.workspace_upper_m, strict=True)
        ):
            raise ValueError(
                f"the workspace box from {self.workspace_lower_m} to {self.workspace_upper_m} is empty: "
                "every lower corner must be below its upper corner"
            )
        return self
