"""The architecture of the shipped policy, sized for a processor without an accelerator."""

from __future__ import annotations

from typing import Any

from salus_ros.policy.tinyvla.configuration import MemberPart, TinyVlaConfig
from salus_ros.policy.tinyvla.preprocessing import ImageProcessor

AUXILIARY_DIM = 7
"""Named object from the tool (3), goal from the tool (3), held or not (1)."""

STATE_DIM = 13
"""Tool position, six of rotation, opening, and the tool's linear velocity."""


def small_configuration(
    vocabulary: int,
    chunk: int,
    camera_names: tuple[str, ...],
    period_s: float,
    members: int,
    member_part: MemberPart = "last_block",
) -> TinyVlaConfig:
    """The ``config.json`` of that architecture."""
    width = 128
    raw: dict[str, Any] = {
        "architectures": ["LlavaPythiaForCausalLM"],
        "model_type": "llava_pythia",
        "torch_dtype": "float16",
        "vocab_size": vocabulary,
        "hidden_size": width,
        "intermediate_size": 4 * width,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-5,
        "attention_bias": True,
        "rotary_pct": 0.25,
        "rotary_emb_base": 10000,
        "use_parallel_residual": True,
        "max_position_embeddings": 2048,
        "bos_token_id": 0,
        "eos_token_id": 0,
        "concat": "token_cat",
        "image_aspect_ratio": "pad",
        "mm_use_im_start_end": False,
        "action_head_type": "droid_diffusion",
        "action_dim": 10,
        "state_dim": STATE_DIM,
        "chunk_size": chunk,
        "vision_config": {
            "vision_tower": {
                "model_type": "llava_pythia_clip_vision_model",
                "vision_model_name_or_path": "clip-vit-small-patch16-64",
                "hidden_size": width,
                "intermediate_size": 4 * width,
                "num_hidden_layers": 3,
                "num_attention_heads": 4,
                "num_channels": 3,
                "image_size": 64,
                "patch_size": 16,
                "hidden_act": "quick_gelu",
                "layer_norm_eps": 1e-5,
                "mm_vision_select_layer": -1,
                "mm_vision_select_feature": "patch",
            },
            "mm_projector": {
                "mm_projector_type": "mlp2x_gelu",
                "mm_hidden_size": width,
                "hidden_size": width,
            },
        },
        "salus": {
            "members": members,
            "member_part": member_part,
            "token_order": "text_first",
            "instruction_film": True,
            "joined_tokens": 16 * len(camera_names),
            "prediction": "sample",
            "clip_sample": False,
            "inference_steps": 5,
            "lowest_tool_m": 0.014,
            "timestep_spacing": "trailing",
            "action_normalisation": "per_step",
            "action_frame": "measured_tool",
            "crop": False,
            "camera_names": list(camera_names),
            "action_period_s": period_s,
            "auxiliary_dim": AUXILIARY_DIM,
        },
    }
    return TinyVlaConfig.of(raw)


def image_processor(config: TinyVlaConfig) -> ImageProcessor:
    """CLIP's normalisation at the tower's size."""
    return ImageProcessor(
        size=config.vision_tower.image_size,
        mean=(0.48145466, 0.4578275, 0.40821073),
        std=(0.26862954, 0.26130258, 0.27577711),
    )
