"""Captions from a small grammar, with what each of them says.

A caption may leave things out, change the order and use other words. `Caption.mentions` has only
what the text says, in the form of `scene.labels`, so that adherence asks for nothing else.
"""

from dataclasses import dataclass

from monarchrt_train.world.draw import Draw
from monarchrt_train.world.scene import Scene, Thing

COLOR_WORDS = {
    "red": ("red",),
    "orange": ("orange",),
    "yellow": ("yellow",),
    "green": ("green",),
    "cyan": ("cyan", "turquoise"),
    "blue": ("blue",),
    "purple": ("purple", "violet"),
    "pink": ("pink",),
}
SHAPE_WORDS = {
    "ball": ("ball", "ball", "sphere"),
    "square": ("square", "square", "box"),
    "triangle": ("triangle",),
    "star": ("star",),
    "heart": ("heart",),
    "ring": ("ring", "ring", "hoop"),
    "cross": ("cross", "cross", "plus"),
    "moon": ("moon", "moon", "crescent"),
}
SIZE_WORDS = {
    "small": ("small", "little", "tiny"),
    "medium": ("medium", "medium-sized"),
    "large": ("large", "big", "huge"),
}
SPEED_WORDS = {"slow": ("slowly", "gently"), "fast": ("quickly", "fast", "rapidly")}
# Present, then the form with -ing.
MOTION_WORDS = {
    "bounce": (
        ("bounces", "bouncing"),
        ("bounces up and down", "bouncing up and down"),
        ("jumps up and down", "jumping up and down"),
    ),
    "roll": (("rolls", "rolling"), ("rolls along the floor", "rolling along the floor")),
    "fall": (("falls", "falling"), ("falls down", "falling down"), ("drops", "dropping")),
    "float": (
        ("floats up", "floating up"),
        ("floats upward", "floating upward"),
        ("rises", "rising"),
    ),
    "orbit": (
        ("moves in a circle", "moving in a circle"),
        ("circles around", "circling around"),
        ("orbits", "orbiting"),
    ),
    "swing": (
        ("swings", "swinging"),
        ("swings back and forth", "swinging back and forth"),
        ("swings on a string", "swinging on a string"),
    ),
    "spin": (
        ("spins", "spinning"),
        ("spins in place", "spinning in place"),
        ("rotates", "rotating"),
    ),
    "zigzag": (("zigzags", "zigzagging"), ("moves in a zigzag", "moving in a zigzag")),
    "still": (
        ("stands still", "standing still"),
        ("does not move", "not moving"),
        ("rests on the floor", "resting on the floor"),
    ),
}
# Before the noun: "a bouncing red ball".
MOTION_ADJECTIVES = {
    "bounce": "bouncing",
    "roll": "rolling",
    "fall": "falling",
    "float": "rising",
    "orbit": "circling",
    "swing": "swinging",
    "spin": "spinning",
    "zigzag": "zigzagging",
    "still": "resting",
}
DIRECTION_WORDS = {
    "left": ("to the left", "left", "from right to left"),
    "right": ("to the right", "right", "from left to right"),
    "clockwise": ("clockwise",),
    "counterclockwise": ("counterclockwise",),
}
BACKGROUND_WORDS = {
    "brick": ("a brick wall",),
    "wood": ("a wooden wall", "wooden planks"),
    "sky": ("a cloudy sky", "white clouds"),
    "night": ("a night sky", "a starry sky"),
    "hills": ("green hills", "soft hills"),
    "dots": ("a dotted wall", "a wall with dots"),
    "stripes": ("a striped wall", "a wall with stripes"),
    "checker": ("a checkered wall", "a chessboard wall"),
}
CAMERA_WORDS = {
    "still": ("the camera is still", "the camera does not move"),
    "pan": ("the camera pans", "the camera pans from side to side"),
    "zoom": ("the camera zooms", "the camera zooms in and out"),
}
FRONT_WORDS = ("in front of", "in front of", "against")
ANY_THING_WORDS = ("thing", "object")
VIDEO_WORDS = "a video of "
GLUE_WORDS = ("a", "an", "and", "background", "behind", "is", "it", "of", "that", "the", "there")
GLUE_WORDS += ("video", "while")

# How often a caption says each attribute; of size and speed less, they matter least.
MENTIONED = {
    "color": 0.95,
    "shape": 0.95,
    "size": 0.5,
    "motion": 0.94,
    "direction": 0.8,
    "speed": 0.6,
    "background": 0.8,
}
CAMERA_MENTIONED = {"still": 0.2, "pan": 0.7, "zoom": 0.7}
FULLY_MENTIONED = ("color", "shape", "motion", "direction", "background")


@dataclass(frozen=True)
class Caption:
    """A text, and of the scene's labels those it says (`count` always)."""

    text: str
    mentions: dict
    clauses: tuple[tuple[int, int], ...]  # where the text speaks of each thing: from, to


def caption(scene: Scene, seed: int, full: bool = False) -> Caption:
    """A caption of the scene; other seeds say it in other words.

    With `full` it names colour, shape, motion, direction and background of everything.
    """
    draw = Draw("caption", scene.split, scene.seed, seed)

    def says(name: str, probability: float) -> bool:
        return draw.chance(probability) or (full and name in FULLY_MENTIONED)

    said = [_said(thing, says) for thing in scene.things]
    mentions: dict = {"count": len(said), "objects": said}
    text, clauses = _subjects(draw, scene.things, said)
    if says("background", MENTIONED["background"]):
        mentions["background"] = scene.background
        text = _with_background(draw, text, draw.pick(BACKGROUND_WORDS[scene.background]))
    if says("camera", CAMERA_MENTIONED[scene.camera]):
        mentions["camera"] = scene.camera
        words = draw.pick(CAMERA_WORDS[scene.camera])
        text = draw.pick((f"{text}, {words}", f"{text}, and {words}", f"{text} while {words}"))
    if draw.chance(0.3):
        text = text[0].upper() + text[1:] + "."
    return Caption(text, mentions, _spans(text.lower(), clauses))


def words(text: str) -> list[str]:
    """The words of a caption, without capitals and punctuation."""
    return text.lower().replace(",", " ").replace(".", " ").split()


def vocabulary() -> list[str]:
    """Every word that captions use."""
    tables = (COLOR_WORDS, SHAPE_WORDS, SIZE_WORDS, SPEED_WORDS, DIRECTION_WORDS)
    phrases = [
        p for t in (*tables, BACKGROUND_WORDS, CAMERA_WORDS) for row in t.values() for p in row
    ]
    phrases += [p for row in MOTION_WORDS.values() for forms in row for p in forms]
    phrases += [*MOTION_ADJECTIVES.values(), *FRONT_WORDS, *ANY_THING_WORDS, *GLUE_WORDS]
    return sorted({w for phrase in phrases for w in words(phrase)})


def _said(thing: Thing, says) -> dict:
    """The thing's labels that its caption names."""
    names = [n for n in MENTIONED if n != "background" and getattr(thing, n) is not None]
    said = {n: getattr(thing, n) for n in names if says(n, MENTIONED[n])}
    if "color" not in said and "shape" not in said:
        said = {"color": thing.color} | said
    if "motion" not in said:  # how it moves needs that it moves
        said.pop("direction", None)
        said.pop("speed", None)
    return said


def _noun(draw: Draw, said: dict, front: str = "") -> str:
    """'a small red ball'; `front` comes before all adjectives."""
    words = [front] if front else []
    if "size" in said:
        words.append(draw.pick(SIZE_WORDS[said["size"]]))
    color = draw.pick(COLOR_WORDS[said["color"]]) if "color" in said else ""
    shape = draw.pick(SHAPE_WORDS[said["shape"]] if "shape" in said else ANY_THING_WORDS)
    if color and draw.chance(0.07):
        words += [shape, "that is", color]
    else:
        words += [color, shape] if color else [shape]
    words = " ".join(words)
    return ("an " if words[0] in "aeiou" else "a ") + words


def _clause(draw: Draw, thing: Thing, said: dict, verb: bool) -> str:
    """What one thing does, as a sentence ('a ball rolls') or, without a verb, as a noun."""
    if "motion" not in said:
        return _noun(draw, said)
    direction = draw.pick(DIRECTION_WORDS[said["direction"]]) if "direction" in said else ""
    speed = draw.pick(SPEED_WORDS[said["speed"]]) if "speed" in said else ""
    present, ing = draw.pick(MOTION_WORDS[thing.motion])
    if not verb and not direction and draw.chance(0.3):
        front = " ".join(w for w in (speed, MOTION_ADJECTIVES[thing.motion]) if w)
        return _noun(draw, said, front)
    noun = _noun(draw, said)
    before = speed if speed != "fast" and draw.chance(0.3) else ""
    after = "" if before else speed
    tail = [direction, after] if draw.chance(0.5) else [after, direction]
    if verb:
        words = [noun, *((before, present) if draw.chance(0.7) else ("is", before, ing)), *tail]
    else:
        words = [noun, before, ing, *tail]
    return " ".join(w for w in words if w)


def _subjects(
    draw: Draw, things: tuple[Thing, ...], said: list[dict]
) -> tuple[str, dict[int, str]]:
    """All of them in a sentence; of each, in the text's order, the part that speaks of it."""
    order = list(range(len(things)))
    if draw.chance(0.5):
        order.reverse()
    verb = draw.chance(0.7) and all("motion" in s for s in said)
    clauses = [_clause(draw, things[i], said[i], verb) for i in order]
    text = clauses[0]
    if len(clauses) > 1:
        joint = (
            draw.pick((" and ", ", and ", " while ")) if verb else draw.pick((" and ", ", and "))
        )
        text = ", ".join(clauses[:-1]) + joint + clauses[-1]
    if not verb:
        text = draw.pick(("", "", VIDEO_WORDS, "there is ")) + text
    return text, dict(zip(order, clauses, strict=True))


def _spans(text: str, clauses: dict[int, str]) -> tuple[tuple[int, int], ...]:
    """Where each clause stands; in the order of the numbers."""
    spans, at = {}, 0
    for thing, clause in clauses.items():
        start = text.index(clause, at)
        at = start + len(clause)
        spans[thing] = (start, at)
    return tuple(spans[thing] for thing in sorted(spans))


def _with_background(draw: Draw, text: str, words: str) -> str:
    place = f"{draw.pick(FRONT_WORDS)} {words}"
    form = draw.pick(("after", "after", "before", "sentence"))
    if form == "after" or (form == "before" and text.startswith(VIDEO_WORDS)):
        return f"{text} {place}"
    if form == "before":
        return f"{place}, {text}"
    return (
        f"{text}, behind it {words}" if draw.chance(0.5) else f"{text}, the background is {words}"
    )
