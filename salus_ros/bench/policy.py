"""Image to chunk: the shipped policy, and the 400M architecture with random weights.

The reference is the plain way of the published code in the same run: eager attention, float32, one sample,
one U-Net call a step.
"""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Final, get_args

import numpy as np
import torch

from salus_ros.assets import asset
from salus_ros.bench.figures import Figure, durations_s
from salus_ros.nodes.inference import SWITCH_INTERVAL_S
from salus_ros.policy.registry import DEFAULT
from salus_ros.policy.tinyvla import checkpoint, preprocessing
from salus_ros.policy.tinyvla.backbone import Attention
from salus_ros.policy.tinyvla.configuration import MemberPart, TinyVlaConfig
from salus_ros.policy.tinyvla.denoising import Denoiser
from salus_ros.policy.tinyvla.engine import Engine, Graph
from salus_ros.policy.tinyvla.model import TinyVla
from salus_ros.policy.tinyvla.naming import from_published, to_published
from salus_ros.policy.tinyvla.policy import TinyVlaPolicy, TinyVlaPolicySettings
from salus_ros.types import Floats, Image, Observation, RobotState

DRAWS: Final = 4
MEMBERS: Final = 5
TICK_S: Final = 0.002
_REST_RAD: Final = np.array([0.0, -0.3, 0.0, -2.2, 0.0, 1.95, 0.785])
_PLAIN: Final = "plain eager float32, one sample"

Inputs = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
"""Pixels (1, V, 3, S, S), prompt ids (1, M), state (1, S)."""

_START_UP: Final = """
from salus_ros.bench.policy import observation
from salus_ros.policy.registry import load_policy
load_policy().act(observation())
"""


def measure(quick: bool) -> Iterator[Figure]:
    """Yield latencies by stage, memory, start-up, and what the ensemble costs against one sample."""
    torch.set_flush_denormal(True)
    gpu = torch.cuda.is_available()
    times = 30 if quick else 200
    yield from _shipped("cpu", times)
    yield from _members_own(times)
    yield from _lateness(TinyVlaPolicy.load(asset(DEFAULT), TinyVlaPolicySettings(draws=DRAWS)), times)
    if gpu:
        yield from _shipped("cuda", times)
    started = durations_s(_start, 1 if quick else 3, warm_up=0)
    bare = durations_s(lambda: _run("import torch"), 1 if quick else 3, warm_up=0)
    yield Figure(
        "process to first action", float(np.median(started)), "s", float(np.median(bare)), "import torch"
    )
    yield from _large("cuda" if gpu else "cpu", 200 if gpu else 1 if quick else 3)


def observation(seed: int = 0) -> Observation:
    """Noise for images at the size that the simulator gives, a usual posture."""
    rng = np.random.default_rng(seed)
    images: dict[str, Image] = {
        name: rng.integers(0, 255, (128, 128, 3)).astype(np.uint8) for name in ("front", "wrist")
    }
    zeros = np.zeros(7)
    return Observation(
        0.0, RobotState(0.0, _REST_RAD, zeros, zeros, 0.08), images, "put the red cube in the bin"
    )


def _shipped(device: str, times: int) -> Iterator[Figure]:
    folder = asset(DEFAULT)
    policy = TinyVlaPolicy.load(folder, TinyVlaPolicySettings(device=device, draws=DRAWS))
    loaded = checkpoint.load(folder, "eager")
    model = loaded.model
    assert isinstance(model, TinyVla)
    inputs = _inputs(loaded, observation())
    plain = _plain_loop(_first_member(model, "eager"), inputs, device)
    ours, reference = _in_turn(lambda: policy.act(observation()), plain, times)
    name = f"shipped, {policy.config.extensions.members} x {DRAWS} samples, {device}"
    yield from _quantiles(f"{name}, image to chunk", ours, reference)
    several, one = Engine(checkpoint.load(folder).model, device), Engine(_first_member(model, "sdpa"), device)
    yield from _against_one_sample(name, several, one, inputs, times)
    images = [observation().images[name] for name in model.extensions.camera_names]
    taken = durations_s(
        lambda: preprocessing.pixels(images, loaded.processor, model.config.crop), times, warm_up=3
    )
    yield Figure("shipped, images, p50", _p(taken, 50), "ms")
    yield from _stages("shipped", several, inputs, times)
    yield Figure("shipped, parameters in memory", 4e-6 * _count(several), "MB")


def _against_one_sample(
    name: str, several: Engine, one: Engine, inputs: Inputs, times: int
) -> Iterator[Figure]:
    """An ensemble of so many draws beside one member with one draw, both our own way."""
    runs: list[Callable[[], object]] = []
    for engine, draws in ((several, DRAWS), (one, 1)):
        config = engine.model.config
        noise = torch.randn(draws, 1, config.chunk_size, config.action_dim)
        text = engine.prepare(inputs[1][0])
        runs.append(partial(engine.infer, inputs[0][0], text, inputs[2][0], noise))
    many, single = _in_turn(runs[0], runs[1], times)
    yield Figure(f"{name}, model alone, p50", _p(many, 50), "ms", _p(single, 50), "one sample, our own way")


def _members_own(times: int) -> Iterator[Figure]:
    """What members cost by what each has for itself: random weights at the shipped sizes."""
    loaded = checkpoint.load(asset(DEFAULT))
    model, inputs = loaded.model, _inputs(loaded, observation())
    assert isinstance(model, TinyVla)
    raw, widths = model.config.raw, checkpoint.head_widths(to_published(model))

    def engine(members: int, part: str) -> Engine:
        extensions = {**raw["salus"], "members": members, "member_part": part}
        made = TinyVla(TinyVlaConfig.of({**raw, "salus": extensions}), widths)
        return Engine(made.eval().requires_grad_(False), "cpu")

    one = engine(1, "head")
    for part in get_args(MemberPart):
        name = f"{MEMBERS} x {DRAWS} samples, own {part.replace('_', ' ')}"
        yield from _against_one_sample(name, engine(MEMBERS, part), one, inputs, times)


def _stages(name: str, engine: Engine, inputs: Inputs, times: int) -> Iterator[Figure]:
    """Vision, language model and denoising of all draws, each by itself; on a GPU each as a graph."""
    model = engine.model
    assert isinstance(model, TinyVla)
    denoiser = Denoiser(model)
    pixels, state = (inputs[i].to(engine.device, engine.dtype) for i in (0, 2))
    noise = torch.randn(DRAWS, 1, model.config.chunk_size, model.config.action_dim, device=engine.device)
    text = engine.prepare(inputs[1][0])

    def vision(pixels: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return (model.see(pixels),)

    def language(tokens: torch.Tensor, state: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return (model.embed_out.condition(model.think(model.join(tokens, text)), state),)

    def denoising(condition: torch.Tensor, noise: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return (denoiser.sample(condition, noise).actions,)

    with torch.inference_mode():
        (tokens,) = vision(pixels)
        (condition,) = language(tokens, state)
        for stage, function, given in (
            ("vision", vision, (pixels,)),
            ("language model", language, (tokens, state)),
            ("denoising", denoising, (condition, noise)),
        ):
            run: Callable[[], object] = partial(function, *given)
            if engine.device.type == "cuda":
                run = partial(_replayed, Graph(function, given), given)
            taken = durations_s(run, times, warm_up=3)
            yield Figure(f"{name}, {stage}, {engine.device.type}, p50", _p(taken, 50), "ms")


def _replayed(graph: Graph, given: Sequence[torch.Tensor]) -> None:
    graph.replay(given)
    torch.cuda.synchronize()


def _lateness(policy: TinyVlaPolicy, times: int) -> Iterator[Figure]:
    """How late a thread that sleeps beside an inference wakes up: what the node's executor feels."""
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    quiet = _wake_ups(times)
    ended = threading.Event()

    def infer() -> None:
        torch.set_flush_denormal(True)
        while not ended.is_set():
            policy.act(observation())

    worker = threading.Thread(target=infer)
    worker.start()
    beside = _wake_ups(max(times, 500))
    ended.set()
    worker.join()
    torch.set_num_threads(threads)
    yield Figure("executor late beside an inference, p99", _p(beside, 99), "ms", _p(quiet, 99), "without one")


def _wake_ups(times: int) -> Floats:
    late = np.empty(times)
    for index in range(times):
        due_s = time.perf_counter() + TICK_S
        time.sleep(TICK_S)
        late[index] = time.perf_counter() - due_s
    return late


def _large(device: str, times: int) -> Iterator[Figure]:
    """The published S size: 422 million parameters, two views, and five heads beside one."""
    torch.manual_seed(0)
    inputs = (
        torch.randn(1, 2, 3, 336, 336),
        torch.tensor([[*range(2, 32), -200, *range(2, 24)]]),
        torch.randn(1, 7),
    )
    model = TinyVla(_large_configuration(1), attention="eager").eval().requires_grad_(False)
    yield Figure("400M, parameters", 1e-6 * sum(part.numel() for part in model.parameters()), "million")
    reference = durations_s(_plain_loop(model, inputs, device), times, warm_up=1)
    del model
    gc.collect()
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    several = Engine(TinyVla(_large_configuration(MEMBERS)).eval().requires_grad_(False), device)
    text = several.prepare(inputs[1][0])
    name = f"400M, {MEMBERS} x {DRAWS} samples, {device}"
    noise = torch.randn(DRAWS, 1, 16, 10)
    taken = durations_s(lambda: several.infer(inputs[0][0], text, inputs[2][0], noise), times, warm_up=1)
    yield from _quantiles(f"{name}, pixels to chunk", taken, reference)
    if device == "cuda":
        yield Figure("400M, memory of the GPU", torch.cuda.max_memory_allocated() / 1e6, "MB")
    yield from _stages("400M", several, inputs, times)
    if device == "cpu":
        yield Figure("400M, 5 heads in memory, float32", 4e-6 * _count(several), "MB")
    one = Engine(TinyVla(_large_configuration(1)).eval().requires_grad_(False), device)
    yield from _against_one_sample(name, several, one, inputs, times)


def _count(engine: Engine) -> int:
    return sum(parameter.numel() for parameter in engine.model.parameters())


def _large_configuration(members: int) -> TinyVlaConfig:
    return TinyVlaConfig.of(
        {
            "model_type": "llava_pythia",
            "vocab_size": 50304,
            "hidden_size": 512,
            "intermediate_size": 2048,
            "num_hidden_layers": 6,
            "num_attention_heads": 8,
            "concat": "token_cat",
            "action_head_type": "droid_diffusion",
            "action_dim": 10,
            "state_dim": 7,
            "chunk_size": 16,
            "vision_config": {
                "vision_tower": {
                    "vision_model_name_or_path": "clip-vit-large-patch14-336",
                    "hidden_size": 1024,
                    "intermediate_size": 4096,
                    "num_hidden_layers": 24,
                    "num_attention_heads": 16,
                    "image_size": 336,
                    "patch_size": 14,
                },
                "mm_projector": {
                    "mm_projector_type": "mlp2x_gelu",
                    "mm_hidden_size": 1024,
                    "hidden_size": 512,
                },
            },
            "salus": {"members": members, "member_part": "head"},
        }
    )


def _plain_loop(model: TinyVla, inputs: Inputs, device: str) -> Callable[[], object]:
    """Everything from pixels to one chunk, the prompt embedded each time, as the released code does."""
    model.to(device)
    noise = torch.randn(1, 1, model.config.chunk_size, model.config.action_dim, device=device)

    @torch.inference_mode()
    def run() -> object:
        pixels, ids, state = (part.to(device) for part in inputs)
        actions = model.sample(model.condition(pixels, ids, state), noise).actions
        return actions.cpu()

    return run


def _first_member(model: TinyVla, attention: Attention) -> TinyVla:
    """A single policy with the weights of member 0."""
    raw = model.config.raw
    config = TinyVlaConfig.of({**raw, "salus": {**raw["salus"], "members": 1}})
    widths = checkpoint.head_widths(to_published(model))
    alone = TinyVla(config, widths, attention)
    own = {name: tensor for name, tensor in to_published(model).items() if not name.startswith("members.")}
    from_published(alone, own, "member 0")
    return alone.eval().requires_grad_(False)


def _inputs(loaded: checkpoint.Checkpoint, seen: Observation) -> Inputs:
    config = loaded.config
    images = [seen.images[name] for name in config.extensions.camera_names]
    pixels = preprocessing.pixels(images, loaded.processor, config.crop)[None]
    ids = preprocessing.prompt_ids(loaded.tokenizer, preprocessing.prompt(seen.instruction))
    return pixels, torch.tensor([ids]), torch.zeros(1, config.state_dim)


def _in_turn(
    ours: Callable[[], object], reference: Callable[[], object], times: int
) -> tuple[Floats, Floats]:
    """Both, one after the other, so that a busy moment of the machine strikes both alike."""
    taken = np.empty((2, times))
    for action in (ours, reference) * 3:
        action()
    for index in range(times):
        for row, action in enumerate((ours, reference)):
            start = time.perf_counter()
            action()
            taken[row, index] = time.perf_counter() - start
    return taken[0], taken[1]


def _quantiles(name: str, ours: Floats, reference: Floats) -> Iterator[Figure]:
    for q in (50, 99):
        yield Figure(f"{name}, p{q}", _p(ours, q), "ms", _p(reference, q), _PLAIN)


def _p(taken_s: Floats, q: float) -> float:
    """Percentile [ms]."""
    return 1e3 * float(np.percentile(taken_s, q))


def _start() -> None:
    _run(_START_UP)


def _run(code: str) -> None:
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
