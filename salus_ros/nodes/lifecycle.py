"""What every node shares: callbacks that never end the loop, transitions that say why they fail, and a
``main`` that ends well.

rclpy leaves these open: an exception in a callback ends ``spin``, one in a transition is swallowed without a
word, and an inactive lifecycle node runs its callbacks all the same.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any, Final

import rclpy
from rclpy.clock import Clock, ClockType
from rclpy.executors import Executor, ExternalShutdownException, SingleThreadedExecutor
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.signals import SignalHandlerOptions
from rclpy.subscription import Subscription
from rclpy.time_source import CLOCK_TOPIC
from rclpy.timer import Timer

from salus_ros.errors import SalusError
from salus_ros.nodes.parameters import refuse_unknown
from salus_ros.nodes.polling import Inbox, subscribe

PARENT_VARIABLE: Final = "SALUS_PARENT_PID"
"""Set by :mod:`salus_ros.nodes.processes`: the process whose end is the node's end."""

STOP_TIMEOUT_S: Final = 3.0
"""How long a node stays after a signal where it says nothing else; the gate has stopped the arm by then."""

_LOG_PERIOD_S: Final = 2.0
_SPIN_TIMEOUT_S: Final = 0.1
_PR_SET_PDEATHSIG: Final = 1


def write_log(node: Node, message: str, level: str) -> None:
    """Log at a level that is not known beforehand: rclpy wants each line of code to keep to one level."""
    logger = node.get_logger()
    if level == "error":
        logger.error(message)
    elif level == "warning":
        logger.warning(message)
    else:
        logger.info(message)


class GuardedNode(Node):  # type: ignore[misc]
    """A node whose callbacks may fail without ending it."""

    def __init__(self, name: str, *, polls_clock: bool = False, **arguments: Any) -> None:
        """``polls_clock``: with ``use_sim_time``, ``/clock`` is read by :meth:`poll` and not at each tick."""
        self._inbox = Inbox()
        self._polls_clock = polls_clock
        super().__init__(name, **arguments)
        self.callback_errors: Counter[str] = Counter()
        """How often each callback raised, by its name."""
        self._last_log_s: dict[str, float] = {}
        self.steady_clock = Clock(clock_type=ClockType.STEADY_TIME)
        self.ending: Callable[[], bool] = lambda: False
        """Whether the process was asked to end: a callback that waits for something waits no longer."""

    def guard(self, callback: Callable[..., Any], *, fallback: Any = None) -> Callable[..., Any]:
        """Wrap a callback: an exception is counted, logged with its cause and reported to
        :meth:`on_callback_error`; the callback then returns ``fallback``."""
        name = getattr(callback, "__name__", type(callback).__name__)

        def guarded(*arguments: Any) -> Any:
            try:
                return callback(*arguments)
            except Exception as error:
                self._report(name, error)
                return fallback

        return guarded

    def on_callback_error(self, where: str, error: Exception) -> None:
        """Called after a guarded callback raised. Override to react; raising here is counted too."""

    def create_subscription(
        self, msg_type: type[Any], topic: str, callback: Callable[..., Any], *arguments: Any, **more: Any
    ) -> Subscription:
        """As in rclpy, but for the clock: it is guarded, and polled by a node that polls it."""
        if topic == CLOCK_TOPIC:
            callback = self.guard(callback)
        if not (self._polls_clock and topic == CLOCK_TOPIC):
            return super().create_subscription(msg_type, topic, callback, *arguments, **more)
        more["callback_group"] = self._inbox.group
        subscription = super().create_subscription(msg_type, topic, callback, *arguments, **more)
        self._inbox.add(subscription, lambda message, _info: callback(message))
        return subscription

    def destroy_subscription(self, subscription: Subscription) -> bool:
        """As in rclpy; one that was polled is read no more."""
        self._inbox.remove(subscription)
        return bool(super().destroy_subscription(subscription))

    def create_polled_subscription(
        self,
        message_type: type[Any],
        topic: str,
        callback: Callable[[Any], None],
        profile: QoSProfile,
    ) -> Subscription:
        """A subscription that is read by :meth:`poll` only. The callback should be guarded."""
        return subscribe(
            self, self._inbox, message_type, topic, lambda message, _info: callback(message), profile
        )

    def poll(self) -> None:
        """Read the polled subscriptions, and the clock where it is polled, in the order of arrival."""
        self._inbox.poll()

    def create_steady_timer(self, period_s: float, callback: Callable[[], None]) -> Timer:
        """A guarded timer on steady time: neither a clock jump nor a missing ``/clock`` stops it."""
        return self.create_timer(period_s, self.guard(callback), clock=self.steady_clock)

    def log_throttled(self, message: str, *, key: str, level: str = "warning") -> None:
        """Log once in two seconds for each key, so that a standing fault does not flood the log."""
        now_s = time.monotonic()
        if now_s - self._last_log_s.get(key, -1e9) >= _LOG_PERIOD_S:
            self._last_log_s[key] = now_s
            write_log(self, message, level)

    def _report(self, name: str, error: Exception) -> None:
        self.callback_errors[name] += 1
        text = str(error) if isinstance(error, SalusError) else f"{type(error).__name__}: {error}"
        self.log_throttled(f"{name}: {text}", key=f"{name}:{type(error).__name__}", level="error")
        if not isinstance(error, SalusError):
            self.get_logger().debug("".join(traceback.format_exception(error)))
        try:
            self.on_callback_error(name, error)
        except Exception as second:
            self.callback_errors["on_callback_error"] += 1
            self.log_throttled(f"on_callback_error: {second!r}", key="on_callback_error", level="error")

    def request_stop(self) -> None:
        """Called once when the process is asked to end, while the graph is still up."""

    @property
    def stopped(self) -> bool:
        """Whether the process may end now; the loop goes on until then, up to :attr:`stay_s`."""
        return True

    @property
    def stay_s(self) -> float:
        """How long the node may stay after a signal; a second signal ends it at once."""
        return STOP_TIMEOUT_S

    def close(self) -> None:
        """Called once after the loop, before the node is destroyed: close files, join threads."""


class ManagedNode(GuardedNode, LifecycleNode):  # type: ignore[misc]
    """A lifecycle node. Override :meth:`configure`, :meth:`activate` and the rest: they return nothing and
    raise to refuse; the reason is logged in one sentence and the transition fails."""

    def __init__(self, name: str, **arguments: Any) -> None:
        super().__init__(name, **arguments)
        self.active = False

    def configure(self) -> None:
        """Read parameters, load models, create publishers."""

    def activate(self) -> None:
        """Start working."""

    def deactivate(self) -> None:
        """Stop working, keep everything loaded."""

    def cleanup(self) -> None:
        """Release what :meth:`configure` made."""

    def when_active(self, callback: Callable[..., Any], *, fallback: Any = None) -> Callable[..., Any]:
        """A guarded callback that does nothing while the node is not active."""
        guarded = self.guard(callback, fallback=fallback)

        def gated(*arguments: Any) -> Any:
            return guarded(*arguments) if self.active else fallback

        return gated

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Run :meth:`configure`."""
        return self._transition("configure", self.configure)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Enable the lifecycle publishers and run :meth:`activate`."""

        def activate() -> None:
            LifecycleNode.on_activate(self, state)
            try:
                self.activate()
            except BaseException:
                LifecycleNode.on_deactivate(self, state)
                raise
            self.active = True

        return self._transition("activate", activate)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Run :meth:`deactivate` and silence the lifecycle publishers, whatever it raised."""

        def deactivate() -> None:
            self.active = False
            try:
                self.deactivate()
            finally:
                LifecycleNode.on_deactivate(self, state)

        return self._transition("deactivate", deactivate)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Run :meth:`cleanup`."""
        return self._transition("cleanup", self.cleanup)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop working; the process ends on its own signal."""

        def shutdown() -> None:
            if self.active:
                self.active = False
                self.deactivate()

        return self._transition("shutdown", shutdown)

    def _transition(self, name: str, action: Callable[[], None]) -> TransitionCallbackReturn:
        try:
            action()
        except SalusError as error:
            self.get_logger().error(f"cannot {name}: {error}")
            return TransitionCallbackReturn.FAILURE
        except Exception as error:
            self.get_logger().error(
                f"cannot {name}: {type(error).__name__}: {error}\n"
                + "".join(traceback.format_exception(error))
            )
            return TransitionCallbackReturn.FAILURE
        self.get_logger().info(f"{name}: done")
        return TransitionCallbackReturn.SUCCESS


def die_with_parent() -> None:
    """End with the process that started this one, when it asked for that (Linux)."""
    parent = os.environ.get(PARENT_VARIABLE)
    if not parent or not sys.platform.startswith("linux"):
        return
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != int(parent):
        sys.exit(1)


def run_node(
    factory: Callable[[], GuardedNode],
    args: Sequence[str] | None = None,
    *,
    make_executor: Callable[[], Executor] = SingleThreadedExecutor,
) -> int:
    """The ``main`` of a node: start it, serve its callbacks until SIGINT or SIGTERM, end it well.

    Returns the exit code: 0 after a signal, 2 when what it was given is refused (one sentence on stderr).
    """
    die_with_parent()
    signals: list[int] = []

    def on_signal(number: int, _frame: FrameType | None) -> None:
        signals.append(number)

    # Own handlers: rclpy's shut the graph down first, and the node could not say or send anything any more.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, on_signal)
    node: GuardedNode | None = None
    executor: Executor | None = None
    try:
        rclpy.init(args=args, signal_handler_options=SignalHandlerOptions.NO)
        node = factory()
        node.ending = lambda: bool(signals)
        refuse_unknown(node)
        executor = make_executor()
        executor.add_node(node)
        _spin(executor, node, signals)
        return 0
    except SalusError as error:
        print(error, file=sys.stderr)
        return 2
    except (KeyboardInterrupt, ExternalShutdownException):
        return 0
    finally:
        _end(node, executor)


def _spin(executor: Executor, node: GuardedNode, signals: list[int]) -> None:
    while rclpy.ok() and not signals:
        executor.spin_once(timeout_sec=_SPIN_TIMEOUT_S)
    node.guard(node.request_stop)()
    end_s = time.monotonic() + node.stay_s
    while rclpy.ok() and not node.stopped and len(signals) < 2 and time.monotonic() < end_s:
        executor.spin_once(timeout_sec=_SPIN_TIMEOUT_S)


def _end(node: GuardedNode | None, executor: Executor | None) -> None:
    if node is not None:
        node.guard(node.close)()
    if executor is not None:
        executor.shutdown(timeout_sec=1.0)
    if node is not None:
        node.destroy_node()
    rclpy.try_shutdown()
