"""Submit, train, predict. It needs a running `towpath-server` and `towpath-worker --server 127.0.0.1:7070`."""

from __future__ import annotations

import random

from towpath import Client


def main() -> None:
    """Trains on points of a square, and asks on which side of the diagonal new ones lie."""
    random.seed(42)
    points = [{"x": random.random(), "y": random.random()} for _ in range(1000)]
    rows = [point | {"side": "above" if point["y"] > point["x"] else "below"} for point in points]

    with Client() as client:  # TOWPATH_ADDRESS, else 127.0.0.1:7070
        job = client.train(rows, target="side", model_type="xgboost", name="diagonal")
        trained = job.result(progress=True)
        print(f"{trained.model.ref}: accuracy {trained.metrics['accuracy']:.3f}")

        answer = client.predict(trained.model.ref, [{"x": 0.2, "y": 0.9}, {"x": 0.8, "y": 0.3}]).result()
        print(answer.values)

        print(*(model.ref for model in client.models(name_prefix="diagonal")))


if __name__ == "__main__":
    main()
