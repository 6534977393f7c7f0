"""Stage 5: the few-step model with Monarch attention in place; see distill.py.

python -m monarchrt_train.monarch --config FILE --work DIR --minutes 8
"""

from __future__ import annotations

from monarchrt_train.clips import ClipSource
from monarchrt_train.distill import Trainer
from monarchrt_train.run import Run
from monarchrt_train.sources import training_source


def main(argv: list[str] | None = None, source: ClipSource | None = None) -> None:
    run = Run("monarch", __doc__.splitlines()[0], argv)
    stage = run.config.monarch
    source = source or training_source(stage.counts, stage.motions)
    Trainer(run, stage, "distill", source).train()


if __name__ == "__main__":
    main()
