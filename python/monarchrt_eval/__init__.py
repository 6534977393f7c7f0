"""Evaluation of generated video."""
