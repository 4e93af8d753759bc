"""Messages in, window of signals out: the part that live monitor and replay share."""

from __future__ import annotations

from collections.abc import Iterable

from salus_ros.assets import asset
from salus_ros.monitor.body import Body
from salus_ros.monitor.inputs import Inputs
from salus_ros.monitor.latents import LatentReference
from salus_ros.monitor.settings import MonitorSettings
from salus_ros.monitor.signals import SignalSet
from salus_ros.monitor.window import Window
from salus_ros.types import Floats


class Perception:
    """Buffers, signals and window of one robot."""

    def __init__(
        self,
        settings: MonitorSettings,
        signals: Iterable[str] | None = None,
        latents: LatentReference | None = None,
    ) -> None:
        """Builds the robot's body.

        Args:
            settings: rates, age limits and geometry.
            signals: names to measure; default: all that are registered.
            latents: latents of successes, as training fits them.
        """
        self.settings = settings
        self.inputs = Inputs(settings, Body.from_urdf(asset(settings.urdf), settings.camera_poses), latents)
        self.signals = SignalSet(signals)
        self._window = Window(settings.window_steps, len(self.signals.names), settings.period_s)

    def reset(self) -> None:
        """Forgets the episode before."""
        self.inputs.clear()
        self._window.clear()

    def look(self, now_s: float) -> tuple[int, Floats] | None:
        """Sequence of the newest policy output and the window (steps, F) at ``now_s``.

        ``None`` when there is no fresh joint state or no fresh policy output: nothing to judge.
        """
        view = self.inputs.view(now_s)
        if view.motion is None or view.plan is None:
            return None
        return view.plan.output.sequence, self._window.push(now_s, self.signals.measure(view))
