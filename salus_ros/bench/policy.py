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
from collections.abc import Callable, Iterator
from functools import partial
from typing import Final, get_args

import numpy as np
import torch

from salus_ros.assets import asset
from salus_ros.bench.figures import Figure, durations_s
from salus_ros.nodes.inference import SWITCH_INTERVAL_S
from salus_ros.policy.registry import DEFAULT
from salus_ros.policy.tinyvla import checkpoint, preprocessing
from salus_ros.policy.tinyvla.configuration import MemberPart, TinyVlaConfig
from salus_ros.policy.tinyvla.denoising import Denoiser
from salus_ros.policy.tinyvla.engine import Engine
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
    yield from _shipped(30 if quick else 200)
    started = durations_s(_start, 1 if quick else 3, warm_up=0)
    bare = durations_s(lambda: _run("import torch"), 1 if quick else 3, warm_up=0)
    yield Figure(
        "process to first action", float(np.median(started)), "s", float(np.median(bare)), "import torch"
    )
    gpu = torch.cuda.is_available()
    yield from _large(200 if gpu else 1 if quick else 3)


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


def _shipped(times: int) -> Iterator[Figure]:
    folder = asset(DEFAULT)
    policy = TinyVlaPolicy.load(folder, TinyVlaPolicySettings(device="cpu", draws=DRAWS))
    loaded = checkpoint.load(folder, "eager")
    model = loaded.model
    assert isinstance(model, TinyVla)
    plain = _plain_loop(_first_member(model), _inputs(loaded, observation()))
    ours, reference = _in_turn(lambda: policy.act(observation()), plain, times)
    name = f"shipped, {policy.config.extensions.members} x {DRAWS} samples"
    yield from _quantiles(name, ours, reference)
    one = _first_member(model)
    engine = Engine(one, "cpu")
    pixels, ids, state = _inputs(loaded, observation())
    text = engine.prepare(ids[0])
    several = Engine(checkpoint.load(folder).model, "cpu")
    several_text = several.prepare(ids[0])
    shape = (1, model.config.chunk_size, model.config.action_dim)
    many, single = _in_turn(
        lambda: several.infer(pixels[0], several_text, state[0], torch.randn(DRAWS, *shape)),
        lambda: engine.infer(pixels[0], text, state[0], torch.randn(1, *shape)),
        times,
    )
    yield Figure(f"{name}, model alone, p50", _p(many, 50), "ms", _p(single, 50), "one sample, our own way")
    yield from _parts(model, (pixels, ids, state), times)
    yield from _stages(loaded, model, times)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    yield Figure("shipped, parameters in memory", 4e-6 * parameters, "MB")
    yield from _lateness(policy, times)


def _parts(model: TinyVla, inputs: Inputs, times: int) -> Iterator[Figure]:
    """What members cost by what each has for itself: random weights at the shipped sizes."""
    raw, shape = model.config.raw, (1, model.config.chunk_size, model.config.action_dim)
    widths = checkpoint.head_widths(to_published(model))
    runs: dict[str, Callable[[], object]] = {}
    for part, members in (("head", 1), *((part, MEMBERS) for part in get_args(MemberPart))):
        extensions = {**raw["salus"], "members": members, "member_part": part}
        made = TinyVla(TinyVlaConfig.of({**raw, "salus": extensions}), widths).eval().requires_grad_(False)
        engine = Engine(made, "cpu")
        text, noise = engine.prepare(inputs[1][0]), torch.randn(DRAWS if members > 1 else 1, *shape)
        runs[part if members > 1 else "one"] = partial(engine.infer, inputs[0][0], text, inputs[2][0], noise)
    for part in get_args(MemberPart):
        several, single = _in_turn(runs[part], runs["one"], times)
        name = f"{MEMBERS} x {DRAWS} samples, own {part.replace('_', ' ')}, p50"
        yield Figure(name, _p(several, 50), "ms", _p(single, 50), "one sample")


def _stages(loaded: checkpoint.Checkpoint, model: TinyVla, times: int) -> Iterator[Figure]:
    seen = observation()
    images = [seen.images[name] for name in model.extensions.camera_names]
    pixels, ids, state = _inputs(loaded, seen)
    denoiser = Denoiser(model)
    with torch.inference_mode():
        text, tokens = model.text(ids), model.see(pixels)
        condition = model.embed_out.condition(model.think(model.join(tokens, text)), state)
        noise = torch.randn(DRAWS, 1, model.config.chunk_size, model.config.action_dim)
        stages: dict[str, Callable[[], object]] = {
            "images": lambda: preprocessing.pixels(images, loaded.processor, model.config.crop),
            "vision": lambda: model.see(pixels),
            "language model": lambda: model.embed_out.condition(model.think(model.join(tokens, text)), state),
            "denoising": lambda: denoiser.sample(condition, noise),
        }
        for name, action in stages.items():
            yield Figure(f"shipped, {name}, p50", _p(durations_s(action, times, warm_up=3), 50), "ms")


def _lateness(policy: TinyVlaPolicy, times: int) -> Iterator[Figure]:
    """How late a thread that sleeps beside an inference wakes up: what the node's executor feels."""
    sys.setswitchinterval(SWITCH_INTERVAL_S)
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
    yield Figure("executor late beside an inference, p99", _p(beside, 99), "ms", _p(quiet, 99), "without one")


def _wake_ups(times: int) -> Floats:
    late = np.empty(times)
    for index in range(times):
        due_s = time.perf_counter() + TICK_S
        time.sleep(TICK_S)
        late[index] = time.perf_counter() - due_s
    return late


def _large(times: int) -> Iterator[Figure]:
    """The published S size: 422 million parameters, two views, and five heads beside one."""
    torch.manual_seed(0)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    inputs = (
        torch.randn(1, 2, 3, 336, 336),
        torch.tensor([[*range(2, 32), -200, *range(2, 24)]]),
        torch.randn(1, 7),
    )
    plain_model = TinyVla(_large_configuration(1), attention="eager").eval().requires_grad_(False).to(device)
    parameters = sum(parameter.numel() for parameter in plain_model.parameters())
    pixels, ids, state = (part.to(device) for part in inputs)
    plain = _plain_loop(plain_model, (pixels, ids, state))
    reference = durations_s(plain, times, warm_up=1)
    yield Figure("400M, parameters", 1e-6 * parameters, "million")
    del plain, plain_model
    gc.collect()
    engine = Engine(TinyVla(_large_configuration(MEMBERS)).eval().requires_grad_(False), device)
    text = engine.prepare(inputs[1][0])
    for draws, name in ((DRAWS, f"400M, {MEMBERS} x {DRAWS} samples"), (1, f"400M, {MEMBERS} x 1 samples")):
        noise = torch.randn(draws, 1, 16, 10)

        def infer(noise: torch.Tensor = noise) -> object:
            return engine.infer(inputs[0][0], text, inputs[2][0], noise)

        yield from _quantiles(f"{name}, {device}", durations_s(infer, times, warm_up=1), reference)
    if device == "cuda":
        yield Figure("400M, memory of the GPU", torch.cuda.max_memory_allocated() / 1e6, "MB")
    else:
        yield Figure("400M, 5 heads in memory, float32", 4e-6 * _count(engine), "MB")


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


def _plain_loop(model: TinyVla, inputs: Inputs) -> Callable[[], object]:
    """Everything from pixels to one chunk, the prompt embedded each time, as the released code does."""
    pixels, ids, state = inputs
    noise = torch.randn(1, 1, model.config.chunk_size, model.config.action_dim, device=pixels.device)

    @torch.inference_mode()
    def run() -> object:
        actions = model.sample(model.condition(pixels, ids, state), noise).actions
        return actions.cpu()

    return run


def _first_member(model: TinyVla) -> TinyVla:
    """A single policy with the weights of member 0."""
    raw = model.config.raw
    config = TinyVlaConfig.of({**raw, "salus": {**raw["salus"], "members": 1}})
    widths = checkpoint.head_widths(to_published(model))
    alone = TinyVla(config, widths, "eager")
    own = {name: tensor for name, tensor in to_published(model).items() if not name.startswith("members.")}
    from_published(alone, own, "member 0")
    return alone.eval().requires_grad_(False)


def _inputs(
    loaded: checkpoint.Checkpoint, seen: Observation
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
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
        yield Figure(f"{name}, image to chunk, p{q}", _p(ours, q), "ms", _p(reference, q), _PLAIN)


def _p(taken_s: Floats, q: float) -> float:
    """Percentile [ms]."""
    return 1e3 * float(np.percentile(taken_s, q))


def _start() -> None:
    _run(_START_UP)


def _run(code: str) -> None:
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
