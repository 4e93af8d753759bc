"""How long the monitor takes from a policy output to its prediction, part by part.

The inputs are those of a robot at work: joint states at 100 Hz, a policy output every 0.2 s with the samples
of five members, a cloud of 400 points every 0.1 s. Every tick is one at which something new came.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Final

import numpy as np

from salus_ros.assets import asset
from salus_ros.bench.figures import Figure, durations_s
from salus_ros.monitor import Monitor
from salus_ros.monitor.predictor import REACH
from salus_ros.monitor.predictors import load_predictor
from salus_ros.types import (
    ActionChunk,
    Cause,
    Floats,
    InterventionState,
    Mode,
    PointCloud,
    PolicyOutput,
    RobotState,
    Uncertainty,
)

HOME_RAD: Final = np.array([0.0, -0.3, 0.0, -2.2, 0.0, 2.0, 0.785])
STEPS_S: Final[Floats] = 0.05 * np.arange(1, 17, dtype=np.float64)
STATE_PERIOD_S: Final = 0.01
POINTS: Final = 400


def measure(quick: bool) -> Iterator[Figure]:
    """Yield latencies of the shipped monitor; the network's beside that of the same network in torch."""
    monitor = Monitor.load(asset("models/monitor"))
    parts = _ticks_s(monitor, 200 if quick else 2000)
    total = parts.sum(axis=1)
    for name, percent in (("p50", 50), ("p99", 99)):
        yield Figure(f"output to prediction, {name}", float(np.percentile(total, percent)) * 1e3, "ms")
    for name, taken in zip(("taking inputs", "signals and network"), parts.T, strict=True):
        yield Figure(f"of it {name}, p50", float(np.median(taken)) * 1e3, "ms")
    share = float(total.mean()) / monitor.period_s
    yield Figure("share of one core at the deployed rate", 100.0 * share, "%")
    times = 200 if quick else 1000
    numpy_ms, torch_ms = _network_ms(monitor, times)
    yield Figure("network, p50", numpy_ms, "ms", torch_ms, "the same weights in torch")
    yield Figure("weights", _weights(monitor) / 1e3, "thousand")


def _ticks_s(monitor: Monitor, count: int) -> Floats:
    """(count, 2), seconds of each tick: handing over what came, and the prediction."""
    rng = np.random.default_rng(0)
    monitor.reset()
    taken = np.empty((count, 2))
    warm_up = 20
    states = round(monitor.period_s / STATE_PERIOD_S)
    for tick in range(-warm_up, count):
        now_s = 10.0 + monitor.period_s * (tick + warm_up)
        came = [_state(now_s - STATE_PERIOD_S * i, rng) for i in range(states)][::-1]
        output = _output(now_s - 0.08, tick, rng) if tick % 4 == 0 else None
        cloud = _cloud(now_s, rng) if tick % 2 == 0 else None
        gate = InterventionState(now_s, Mode.NOMINAL, Cause.NONE, "", 1.0, tick - tick % 4, 0.1, 1.0)
        start = time.perf_counter()
        for state in came:
            monitor.observe_robot(state)
        if output is not None:
            monitor.observe_policy(output)
        if cloud is not None:
            monitor.observe_points(cloud)
        monitor.observe_intervention(gate)
        handed = time.perf_counter()
        monitor.predict(now_s)
        if tick >= 0:
            taken[tick] = handed - start, time.perf_counter() - handed
    return taken


def _state(stamp_s: float, rng: np.random.Generator) -> RobotState:
    joints = HOME_RAD + 0.1 * np.sin(stamp_s + np.arange(7))
    return RobotState(stamp_s, joints, 0.1 * np.cos(stamp_s + np.arange(7)), rng.normal(0, 1, 7), 0.08)


def _output(stamp_s: float, sequence: int, rng: np.random.Generator) -> PolicyOutput:
    joints = HOME_RAD + 0.1 * np.sin(stamp_s + STEPS_S[:, None] + np.arange(7))
    samples = rng.normal(0, 0.1, (5, 4, 16, 10)).astype(np.float32)
    latent = rng.normal(size=128).astype(np.float32)
    return PolicyOutput(
        sequence=sequence,
        policy_name="bench",
        policy_hash="",
        instruction="",
        chunk=ActionChunk(stamp_s, STEPS_S, joints, np.where(STEPS_S > 0.4, 0.0, 0.08)),
        uncertainty=Uncertainty(5, 0.01, 0.01, samples.std(axis=(0, 1, 2)), 1e-3, 0.1, latent),
        samples=samples,
        inference_time_s=0.08,
    )


def _cloud(stamp_s: float, rng: np.random.Generator) -> PointCloud:
    points = np.array([0.0, 0.0, 0.9]) + rng.uniform(-0.3, 0.3, (POINTS, 3))
    return PointCloud(stamp_s, "front_optical_frame", points.astype(np.float32))


def _network_ms(monitor: Monitor, times: int) -> tuple[float, float]:
    """Median time of one prediction's networks in numpy and in torch, on one thread each [ms]."""
    import torch

    from salus_ros.monitor.network import Network

    torch.set_num_threads(1)
    checkpoint = monitor.checkpoint
    inputs = 2 * len(checkpoint.signals)
    rows = np.random.default_rng(0).normal(size=(REACH, inputs)).astype(np.float32)
    predictor = load_predictor(checkpoint.kind, checkpoint.members, checkpoint.signals)
    ours = float(np.median(durations_s(lambda: predictor.sequence(rows), times))) * 1e3
    if checkpoint.kind != "temporal":
        return ours, float("nan")
    networks = []
    for weights in checkpoint.members:
        network = Network(inputs, len(weights["stem.bias"])).eval()
        network.load_state_dict({name: torch.from_numpy(np.array(value)) for name, value in weights.items()})
        networks.append(network)
    window = torch.from_numpy(rows)[None]

    @torch.no_grad()
    def forward() -> None:
        for network in networks:
            network(window)

    return ours, float(np.median(durations_s(forward, times))) * 1e3


def _weights(monitor: Monitor) -> float:
    return float(sum(np.size(w) for member in monitor.checkpoint.members for w in member.values()))
