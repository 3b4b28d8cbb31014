"""Reinforcement learning for masked diffusion language models: learn it, and do it."""

__version__ = "0.1.0"
