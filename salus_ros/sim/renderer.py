"""Camera images and depth, rendered without a screen."""

from __future__ import annotations

import salus_ros.robot.gl as gl  # isort: skip  (chooses the renderer before mujoco is imported)
import mujoco
import numpy as np

from salus_ros.errors import SalusError
from salus_ros.types import Floats, Floats32, Image


class Cameras:
    """Renders the cameras of a model; keeps one renderer per image size.

    Renderers are made on first use and belong to the thread that used them first.
    """

    def __init__(self, model: mujoco.MjModel, data: mujoco.MjData) -> None:
        self._model, self._data = model, data
        self._renderers: dict[tuple[int, int, bool], mujoco.Renderer] = {}

    def image(self, camera: str, width: int, height: int) -> Image:
        """(height, width, 3) uint8 RGB."""
        return np.asarray(self._render(camera, width, height, depth=False), dtype=np.uint8)

    def depth(self, camera: str, width: int, height: int) -> Floats32:
        """(height, width) distance along the optical axis in metres; the far clip where there is nothing."""
        return np.asarray(self._render(camera, width, height, depth=True), dtype=np.float32)

    def index(self, camera: str) -> int:
        """Number of a camera.

        Raises:
            SalusError: there is no such camera.
        """
        number = mujoco.mj_name2id(self._model, mujoco.mjtObj.mjOBJ_CAMERA, camera)
        if number < 0:
            names = ", ".join(self._model.camera(i).name for i in range(self._model.ncam))
            raise SalusError(f"There is no camera {camera!r}; choose one of {names}.")
        return int(number)

    def pose(self, camera: str) -> Floats:
        """(4, 4) pose of the optical frame (z forward, x right, y down) in the base frame."""
        number = self.index(camera)
        pose = np.eye(4)
        # MuJoCo's cameras look along -z with y up.
        pose[:3, :3] = self._data.cam_xmat[number].reshape(3, 3) * np.array([1.0, -1.0, -1.0])
        pose[:3, 3] = self._data.cam_xpos[number]
        return pose

    def _render(self, camera: str, width: int, height: int, depth: bool) -> object:
        self.index(camera)
        largest = int(self._model.vis.global_.offwidth)
        if not (0 < width <= largest and 0 < height <= largest):
            raise SalusError(
                f"An image of {width} x {height} was asked for, but expected 1 to {largest} a side."
            )
        key = (width, height, depth)
        if key not in self._renderers:
            try:
                self._renderers[key] = mujoco.Renderer(self._model, height, width)
            except Exception as error:  # MuJoCo raises whatever the GL library does
                raise SalusError(gl.MISSING) from error
            if depth:
                self._renderers[key].enable_depth_rendering()
        renderer = self._renderers[key]
        renderer.update_scene(self._data, camera)
        return renderer.render()
