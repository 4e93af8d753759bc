"""A pi0 policy behind an openpi server, spoken to over its websocket.

The wire is openpi-client's: msgpack, arrays as maps of bytes, type and shape; the server greets with its
metadata, then answers each observation. The client library itself asks for NumPy below 2, which ROS 2
Kilted's and our own pins contradict, so its dozen lines of protocol are written here.
Keys and units are those of DROID; other robots' servers take other keys, all of which are options.
"""

from __future__ import annotations

import contextlib
import re
from pathlib import Path
from typing import Any, Final, Literal

import msgpack
import numpy as np
from PIL import Image as PilImage
from pydantic import BaseModel, ConfigDict, Field
from websockets.exceptions import WebSocketException
from websockets.sync.client import ClientConnection, connect

from salus_ros.errors import SalusError
from salus_ros.policy import uncertainty
from salus_ros.policy.options import settings_of, split_options
from salus_ros.policy.outputs import Outputs
from salus_ros.types import ActionChunk, Floats, Image, Observation, PolicyOutput

JOINTS: Final = 7
_PLAIN: Final = re.compile(r"[<>|=]?[biuf]\d{1,2}")
"""How NumPy writes the types of numbers and booleans."""
_OUT_OF_REACH = (OSError, TimeoutError, WebSocketException)


class OpenPiSettings(BaseModel):
    """Where the server is, and what it expects and gives."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: int = Field(default=0, ge=0, description="Not used: the server draws by itself.")
    host: str = Field(description="Host, or a whole ws:// or wss:// address.")
    port: int = Field(default=8000, gt=0, lt=65536, description="Port.")
    timeout_s: float = Field(default=2.0, gt=0, description="Longest wait for a connection or an answer, s.")
    first_timeout_s: float = Field(
        default=60.0,
        gt=0,
        description="Longest wait for the first answer, before which a new server compiles, s.",
    )
    draws: int = Field(default=1, ge=1, description="Requests for each observation; more tell the spread.")
    front_key: str = Field(default="observation/exterior_image_1_left", description="Front view's key.")
    wrist_key: str = Field(default="observation/wrist_image_left", description="Wrist view's key.")
    joints_key: str = Field(default="observation/joint_position", description="Key of joint positions, rad.")
    gripper_key: str = Field(default="observation/gripper_position", description="Key of the hand, 1 closed.")
    image_px: int = Field(default=224, gt=0, description="Side of the views, padded to squares.")
    action: Literal["joint_velocity", "joint_position"] = Field(
        default="joint_velocity", description="What the first seven numbers of an action are."
    )
    velocity_step_rad: float = Field(
        default=0.2,
        gt=0,
        description="What a velocity of 1 moves a joint by in one period (DROID's 0.2), rad.",
    )
    action_period_s: float = Field(
        default=1 / 15, gt=0, description="Time between actions (DROID: 15 Hz), s."
    )
    opening_max_m: float = Field(default=0.08, gt=0, description="Opening of the hand at a 0, m.")


class OpenPiPolicy:
    """One connection to one server; it is made anew after a failure, at the next observation."""

    name = "openpi"

    def __init__(self, settings: OpenPiSettings) -> None:
        self._settings = settings
        self.action_period_s = settings.action_period_s
        self._connection: ClientConnection | None = None
        self._open = contextlib.ExitStack()
        self._answered = False
        self.metadata = self._connect()
        """What the server says about itself."""
        self.hash = uncertainty.hash_of(
            self.name,
            settings.model_dump_json(exclude={"seed", "timeout_s", "first_timeout_s"}),
            repr(self.metadata),
        )
        self._outputs = Outputs(self.name, self.hash)

    def reset(self, seed: int | None = None) -> None:
        """Forget the chunk before. The server has no memory, and draws by itself."""
        self._outputs.forget()

    def close(self) -> None:
        """End the connection."""
        with contextlib.suppress(*_OUT_OF_REACH):
            self._open.close()
        self._connection = None

    def act(self, observation: Observation) -> PolicyOutput:
        """One answer of the server; see ``Policy.act``."""
        request = pack(self._request(observation))
        draws = [self._ask(request) for _ in range(self._settings.draws)]
        lengths = [str(len(actions)) for actions in draws]
        if len(set(lengths)) > 1:
            raise SalusError(
                f"The openpi server at {self._address} gave chunks of {', '.join(lengths)} actions for "
                "one observation, expected as many in each; use draws=1, or name another server."
            )
        samples = np.stack(draws)
        chunk = self._to_chunk(observation, samples.mean(axis=0))
        return self._outputs.next(observation, chunk, samples[None].astype(np.float32))

    @property
    def _address(self) -> str:
        host, port = self._settings.host, self._settings.port
        return host if host.startswith(("ws://", "wss://")) else f"ws://{host}:{port}"

    def _connect(self) -> dict[str, Any]:
        timeout_s = self._settings.timeout_s
        try:
            opening = connect(
                self._address,
                compression=None,
                max_size=None,
                open_timeout=timeout_s,
                close_timeout=timeout_s,
            )
            connection = self._open.enter_context(opening)
            greeting = unpack(connection.recv(timeout=timeout_s))
        except SalusError:
            self.close()
            raise
        except _OUT_OF_REACH as error:
            self.close()
            raise SalusError(
                f"The openpi server at {self._address} cannot be reached ({error or type(error).__name__}); "
                "start it (scripts/serve_policy.py of openpi), or name another."
            ) from None
        self._connection = connection
        return greeting if isinstance(greeting, dict) else {}

    def _ask(self, request: bytes) -> Floats:
        """Actions (T, 8) for a packed observation."""
        if self._connection is None:
            self._connect()
        assert self._connection is not None
        settings = self._settings
        timeout_s = settings.timeout_s if self._answered else settings.first_timeout_s
        try:
            self._connection.send(request)
            answer = self._connection.recv(timeout=timeout_s)
        except _OUT_OF_REACH as error:
            self.close()
            raise SalusError(
                f"The openpi server at {self._address} did not answer ({error or type(error).__name__}); it "
                "is asked anew at the next observation."
            ) from None
        self._answered = True
        if isinstance(answer, str):
            self.close()
            reason = answer.strip().split("\n")[-1]
            raise SalusError(f"The openpi server at {self._address} failed: {reason}; see its own log.")
        values = unpack(answer)
        given = values.get("actions") if isinstance(values, dict) else None
        try:
            actions = np.asarray(given, dtype=np.float64)
        except (ValueError, TypeError) as error:
            raise SalusError(
                f"The openpi server at {self._address} gave actions that are no array of numbers ({error}); "
                "name another server."
            ) from None
        if (
            actions.ndim != 2
            or not len(actions)
            or actions.shape[1] != JOINTS + 1
            or not np.isfinite(actions).all()
        ):
            raise SalusError(
                f"The openpi server at {self._address} gave actions of shape {actions.shape}, expected "
                f"(T, {JOINTS + 1}) finite numbers (joints and hand, as DROID's); name another server."
            )
        return actions

    def _request(self, observation: Observation) -> dict[str, Any]:
        settings, robot = self._settings, observation.robot
        if len(robot.joint_position_rad) != JOINTS:
            raise SalusError(f"The robot has {len(robot.joint_position_rad)} joints; openpi's have {JOINTS}.")
        request: dict[str, Any] = {
            settings.joints_key: robot.joint_position_rad.astype(np.float32),
            settings.gripper_key: np.array(
                [1 - np.clip(robot.gripper_opening_m / settings.opening_max_m, 0, 1)], np.float32
            ),
            "prompt": observation.instruction,
        }
        for camera, key in (("front", settings.front_key), ("wrist", settings.wrist_key)):
            if camera not in observation.images:
                raise SalusError(
                    f"The observation has cameras {sorted(observation.images)}, but openpi needs {camera!r}; "
                    "publish it."
                )
            request[key] = padded_square(observation.images[camera], settings.image_px)
        return request

    def _to_chunk(self, observation: Observation, actions: Floats) -> ActionChunk:
        settings = self._settings
        joints = actions[:, :JOINTS]
        if settings.action == "joint_velocity":
            steps = np.cumsum(np.clip(joints, -1, 1) * settings.velocity_step_rad, axis=0)
            joints = observation.robot.joint_position_rad + steps
        return ActionChunk(
            stamp_s=observation.stamp_s,
            time_from_start_s=settings.action_period_s * np.arange(1, len(joints) + 1, dtype=np.float64),
            joint_position_rad=joints,
            gripper_opening_m=settings.opening_max_m * (1 - np.clip(actions[:, JOINTS], 0, 1)),
        )


def padded_square(image: Image, side: int) -> Image:
    """uint8 (H, W, 3) to (side, side, 3): whole, in its proportions, on black."""
    height, width = image.shape[:2]
    scale = side / max(height, width)
    size = max(1, int(width * scale)), max(1, int(height * scale))
    resized = np.asarray(PilImage.fromarray(image).resize(size, PilImage.Resampling.BILINEAR))
    square = np.zeros((side, side, 3), np.uint8)
    top, left = (side - size[1]) // 2, (side - size[0]) // 2
    square[top : top + size[1], left : left + size[0]] = resized
    return square


def pack(values: Any) -> bytes:
    """Message of openpi's wire."""

    def array(value: Any) -> Any:
        if isinstance(value, np.ndarray):
            return {
                b"__ndarray__": True,
                b"data": value.tobytes(),
                b"dtype": value.dtype.str,
                b"shape": value.shape,
            }
        if isinstance(value, np.generic):
            return {b"__npgeneric__": True, b"data": value.item(), b"dtype": value.dtype.str}
        raise TypeError(f"openpi's wire has no {type(value).__name__}")

    message: bytes = msgpack.packb(values, default=array)
    return message


def unpack(message: bytes | str) -> Any:
    """The inverse of ``pack``.

    Raises:
        SalusError: it is no message of openpi's wire.
    """

    def plain(name: object) -> np.dtype[Any]:
        # Bytes taken for objects would be pointers of the server's choice.
        if not isinstance(name, str) or not _PLAIN.fullmatch(name):
            raise ValueError(f"arrays of type {name!r}, expected numbers or booleans")
        return np.dtype(name)

    def array(value: dict[Any, Any]) -> Any:
        if b"__ndarray__" in value:
            return np.ndarray(buffer=value[b"data"], dtype=plain(value[b"dtype"]), shape=value[b"shape"])
        if b"__npgeneric__" in value:
            return plain(value[b"dtype"]).type(value[b"data"])
        return value

    try:
        if isinstance(message, str):
            raise ValueError(message.strip().split("\n")[-1])
        return msgpack.unpackb(message, object_hook=array)
    except (ValueError, TypeError, KeyError, OverflowError, msgpack.exceptions.UnpackException) as error:
        raise SalusError(f"The server does not speak openpi's protocol ({error}); name another.") from None


def load(path: Path | None, seed: int) -> OpenPiPolicy:
    """``openpi:HOST``, ``openpi:HOST:PORT``, each with options behind ``?``."""
    given, options = split_options(path)
    if not given:
        raise SalusError("The policy openpi needs a server: openpi:HOST:PORT.")
    host, _, port = given.partition(":")
    address = {"host": host, **({"port": port} if port else {})}
    return OpenPiPolicy(settings_of(OpenPiSettings, {**address, **options}, seed=seed))
