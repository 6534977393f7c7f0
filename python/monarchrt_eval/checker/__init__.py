"""Says what a clip shows, by classical vision on its pixels, and whether that was asked for.

It knows the names of the attributes and what they mean, nothing of what made the clip: it does not
import `monarchrt_train`, but for `validate`, which checks it on clips with known labels.
"""

from monarchrt_eval.checker.adherence import (
    ATTRIBUTES,
    OF_FOUND,
    compare,
    compare_found,
    matched,
    tally,
)
from monarchrt_eval.checker.observe import observe

__all__ = ["ATTRIBUTES", "OF_FOUND", "compare", "compare_found", "matched", "observe", "tally"]
