"""Training of monarchrt models: a small text-to-video model the engine can load.

The modules define exactly what the engine computes, so that a model trained here and exported runs
there to the last bits of a float. README.md has the commands of each stage.
"""
