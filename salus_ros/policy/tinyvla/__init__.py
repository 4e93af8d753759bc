"""TinyVLA: the Llava-Pythia vision-language model with a diffusion action head.

Names, layout and numbers follow the published code (github.com/liyaxuanliyaxuan/TinyVLA);
whatever goes beyond it is a named key under ``salus`` in ``config.json``.
"""
