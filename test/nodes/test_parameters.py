from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, model_validator
from rclpy.parameter import Parameter

from salus_ros.errors import SalusError
from salus_ros.nodes.parameters import declare, refuse_unknown
from salus_ros.types import Mode


class Limits(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    speed_rad_s: float = Field(1.0, gt=0.0, le=2.0, description="Highest joint speed.")
    joints: tuple[str, ...] = Field(("a", "b"), description="Joint names.")


class Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    rate_hz: float = Field(20.0, gt=0.0, description="How often.")
    count: int = Field(3, ge=1, le=9, description="How many.")
    kind: Literal["fast", "slow"] = Field("fast", description="Which one.")
    path: Path = Field(Path("x"), description="Where.")
    mode: Mode = Field(Mode.HOLD, description="What to do.")
    home: tuple[float, float] = Field((0.0, 1.0), description="Where to start.")
    name: str | None = Field(None, description="What to call it.")
    limits: Limits = Limits()

    @model_validator(mode="after")
    def _slow_is_not_often(self) -> Settings:
        if self.kind == "slow" and self.rate_hz > 50:
            raise ValueError("slow goes with 50 Hz at most")
        return self


def test_without_overrides_the_settings_are_the_models_own_defaults(make_node: Callable[..., Any]) -> None:
    assert declare(make_node(), Settings) == Settings()


def test_overrides_reach_every_kind_of_field(make_node: Callable[..., Any]) -> None:
    node = make_node(
        *("rate_hz:=5.0", "count:=4", "kind:=slow", "path:=/tmp/y", "mode:=assist", "home:=[1.0, 2.0]"),
        *("name:=arm", "limits.speed_rad_s:=0.5", "limits.joints:=['c']"),
    )
    settings = declare(node, Settings)
    assert settings == Settings(
        rate_hz=5.0,
        count=4,
        kind="slow",
        path=Path("/tmp/y"),
        mode=Mode.ASSIST,
        home=(1.0, 2.0),
        name="arm",
        limits=Limits(speed_rad_s=0.5, joints=("c",)),
    )


def test_every_parameter_carries_the_description_and_range_of_its_field(
    make_node: Callable[..., Any],
) -> None:
    node = make_node()
    declare(node, Settings)
    speed = node.describe_parameter("limits.speed_rad_s")
    assert speed.description == "Highest joint speed."
    assert speed.floating_point_range[0].to_value == 2.0
    assert speed.additional_constraints == "greater than 0.0"
    count = node.describe_parameter("count")
    assert (count.integer_range[0].from_value, count.integer_range[0].to_value) == (1, 9)


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("rate_hz:=-1.0", "rate_hz"),
        ("rate_hz:=0.0", "rate_hz"),
        ("rate_hz:=fast", "rate_hz"),
        ("rate_hz:=10", "rate_hz"),
        ("rate_hz:=.nan", "rate_hz"),
        ("count:=10", "count"),
        ("kind:=middling", "kind"),
        ("limits.speed_rad_s:=3.0", "limits.speed_rad_s"),
        ("home:=[1.0]", "home"),
        ("mode:=dancing", "mode"),
    ],
)
def test_a_refused_value_is_named_in_one_sentence(
    make_node: Callable[..., Any], override: str, named: str
) -> None:
    with pytest.raises(SalusError, match=named) as refusal:
        declare(make_node(override), Settings)
    assert "\n" not in str(refusal.value)


def test_a_misspelt_parameter_is_refused_with_the_known_ones(make_node: Callable[..., Any]) -> None:
    node = make_node("rate:=5.0")
    declare(node, Settings)
    with pytest.raises(SalusError, match=r"no parameter rate; it has .*rate_hz"):
        refuse_unknown(node)


def test_a_change_at_run_time_is_applied(make_node: Callable[..., Any]) -> None:
    node, applied = make_node(), []
    declare(node, Settings, apply=applied.append)
    result = node.set_parameters([Parameter("limits.speed_rad_s", value=0.25)])[0]
    assert result.successful, result.reason
    assert applied == [Settings(limits=Limits(speed_rad_s=0.25))]


def test_a_refused_change_keeps_the_old_value_and_says_why(make_node: Callable[..., Any]) -> None:
    node, applied = make_node("kind:=slow"), []
    declare(node, Settings, apply=applied.append)
    result = node.set_parameters([Parameter("rate_hz", value=60.0)])[0]
    assert not result.successful
    assert "50 Hz at most" in result.reason
    assert node.get_parameter("rate_hz").value == 20.0
    assert applied == []


def test_only_what_may_change_can_be_changed(make_node: Callable[..., Any]) -> None:
    node = make_node()
    declare(node, Settings, apply=lambda _settings: None, changeable=["count"])
    assert node.set_parameters([Parameter("count", value=4)])[0].successful
    assert not node.set_parameters([Parameter("rate_hz", value=4.0)])[0].successful
