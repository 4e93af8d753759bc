"""How a monitor is trained."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from salus_ros.monitor.predictor import REACH
from salus_ros.monitor.predictors import Kind


class TrainingSettings(BaseModel):
    """How the network is fitted and the alarm is set."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    predictor: Kind = Field(
        "temporal",
        description="What is fitted: the temporal network, the first SALUS's perceptron, or a distance from "
        "successes that needs no failure.",
    )
    seed: int = Field(0, ge=0, description="Of weights, batches and augmentation.")
    members: int = Field(3, ge=1, le=5, description="Networks whose logits are averaged.")
    channels: int = Field(
        32, ge=4, le=96, description="Width of the network; 3 x 64 stays under 200,000 weights."
    )
    history_steps: int = Field(
        7,
        ge=1,
        description="Steps that the network looks back over: blocks that would reach further see the newest "
        f"step alone. {REACH} lets all of them look back; with some hundred failures to learn from, fewer "
        "separate better.",
    )
    dropout: float = Field(0.3, ge=0, lt=1, description="Share of hidden units left out.")
    family_dropout: float = Field(
        0.15,
        ge=0,
        lt=1,
        description="Chance that an episode is shown without one signal family, as if its sensor failed.",
    )
    signal_dropout: float = Field(
        0.15, ge=0, lt=1, description="Chance that an episode is shown without a signal, each for itself."
    )
    noise: float = Field(
        0.15, ge=0, description="Noise added to the normalised signals, in standard deviations."
    )
    learning_rate: float = Field(4e-3, gt=0, description="Of AdamW, decayed by a cosine over the epochs.")
    weight_decay: float = Field(0.1, ge=0, description="Of AdamW.")
    batch_episodes: int = Field(16, ge=1, description="Episodes in a step.")
    epochs: int = Field(80, ge=1, description="Passes over the training episodes at most.")
    patience: int = Field(20, ge=1, description="Passes without a better tuning loss before training stops.")
    timeout_weight: float = Field(0.1, ge=0, description="Weight of the timeout's loss beside the hazards'.")
    max_positive_weight: float = Field(
        8.0, ge=1, description="A failure counts at most this much more than its absence."
    )
    smoothing: float = Field(
        0.5, ge=0, lt=1, description="Weight of the logits before in an exponential mean over time."
    )
    alpha: float = Field(0.05, gt=0, lt=1, description="False alarms per successful episode.")
    novelty_alpha: float = Field(
        0.05, gt=0, lt=1, description="Episodes wrongly said to lie outside the training data."
    )
