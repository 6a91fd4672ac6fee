"""What Towpath adds to real work; bench.growth.work measures it, which takes seconds to import."""

from __future__ import annotations

from bench.figures import Measure, Scale

PHASES = ("load", "prepare", "fit", "evaluate", "save")
KEYS = (
    Measure("train.overhead", "training on 336,776 rows through Towpath, against direct calls", "%"),
    Measure("train.towpath", "training through Towpath", "s"),
    Measure("train.direct", "the same by direct calls: read, encode, fit, measure, save", "s"),
    Measure("train.fit.overhead", "the fit alone, against xgboost.train on the same encoded rows", "%"),
    *(
        Measure(f"train.{phase}.{who}", f"training, {phase}, {words}", "s")
        for phase in PHASES
        for who, words in (("towpath", "in the job"), ("direct", "by direct calls"))
    ),
    Measure("train.around", "training through Towpath, around the handler: submit, lease, pipe, result", "s"),
    Measure("predict.overhead", "100,000 rows in a message through the client, against a local call", "%"),
    Measure("predict.towpath", "predicting through the client, result as a DataFrame", "s"),
    Measure("predict.direct", "encoding and predicting with the loaded model", "s"),
    *(Measure(f"predict.{phase}", f"predicting, {phase}, in the job", "s") for phase in ("load", "predict", "write")),
    Measure("predict.encode", "predicting, the table into a message and the answer out of one", "s"),
    Measure("predict.around", "predicting, around the handler: submit, store, lease, pipe, result", "s"),
)


def measure(scale: Scale) -> dict[str, float]:
    """Training and predicting on the flights, through Towpath and by direct calls."""
    from bench.growth import work

    return work.measure(scale)
