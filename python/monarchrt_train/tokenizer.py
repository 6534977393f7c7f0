"""Stage 1: a SentencePiece model on captions. Writes WORK/spiece.model.

python -m monarchrt_train.tokenizer --config FILE --work DIR
"""

from __future__ import annotations

from monarchrt_train.clips import ClipSource
from monarchrt_train.package import TOKENIZER_FILE
from monarchrt_train.prompts import train
from monarchrt_train.run import Run
from monarchrt_train.sources import training_source


def main(argv: list[str] | None = None, source: ClipSource | None = None) -> None:
    run = Run("tokenizer", __doc__.splitlines()[0], argv)
    source = source or training_source()
    captions = source.captions(range(run.config.captions))
    model = train(captions, run.config.model.text.vocabulary)
    (run.work / TOKENIZER_FILE).write_bytes(model)


if __name__ == "__main__":
    main()
