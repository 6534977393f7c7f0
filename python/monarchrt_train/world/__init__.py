"""A procedural source of labelled video: scenes from seeds, pixels on any device, captions.

>>> scene = sample_scene(7, "train")
>>> video = render([scene], size=(120, 208), frames=21)   # uint8 [1, 21, 3, 120, 208]
>>> caption(scene, seed=0).text
"""

from monarchrt_train.world.captions import Caption, caption, vocabulary
from monarchrt_train.world.flaws import Flawed, flawed_label_maps, render_flawed, sample_flawed
from monarchrt_train.world.prompts import prompt_scenes, prompts, read_prompts, write_prompts
from monarchrt_train.world.render import label_maps, render
from monarchrt_train.world.scene import Scene, Thing, held_out, in_turn, labels, sample_scene, valid

__all__ = [
    "Caption",
    "Flawed",
    "Scene",
    "Thing",
    "caption",
    "flawed_label_maps",
    "held_out",
    "in_turn",
    "label_maps",
    "labels",
    "prompt_scenes",
    "prompts",
    "read_prompts",
    "render",
    "render_flawed",
    "sample_flawed",
    "sample_scene",
    "valid",
    "vocabulary",
    "write_prompts",
]
