"""A tiny run without any training, in which one site may answer as it likes."""

from collections.abc import Callable, Sequence

import numpy as np
from flwr.app import ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp

from hemafl_lib.aggregation import Aggregator, FedAvg
from hemafl_lib.federation import AggregatorStrategy, from_record, run_local, to_record

START = {
    "w": np.linspace(-1, 1, 6, dtype=np.float32).reshape(2, 3),
    "steps": np.array(3, np.int64),
}
"""The initial arrays: a parameter and a counter."""

Lie = Callable[[Message, int], None]
"""Changes a reply, given the number of the round."""


def trained(arrays, hospital):
    """What a site makes of the global arrays."""
    return {"w": arrays["w"] + np.float32(0.01 * (hospital + 1)), "steps": arrays["steps"] + hospital + 1}


def honest_reply(message: Message, number: int, hospital: int) -> Message:
    """The reply of a site that trains or evaluates as it should."""
    metrics = {"num-examples": 10 + hospital, "loss": 0.5, "partition-id": number}
    content = RecordDict(
        {"metrics": MetricRecord(metrics), "site": ConfigRecord({"name": f"site {hospital}"})}
    )
    if message.metadata.message_type == "train":
        content["arrays"] = to_record(trained(from_record(message.content["arrays"]), hospital))
    return Message(content, reply_to=message)


def run_tiny(
    hospitals: Sequence[int] = (0, 1, 2, 3),
    lie: Lie | None = None,
    *,
    liar: int = 1,
    rounds: int = 1,
    named: bool = False,
    aggregator: Aggregator | None = None,
    evaluate: bool = False,
    phase: str = "train",
    wrap: Callable[[Grid], object] = lambda grid: None,
) -> AggregatorStrategy:
    """Run the rounds and return the strategy; ``wrap`` may change the grid before they begin."""
    app, server = ClientApp(), ServerApp()

    def answer(message: Message, context: Context) -> Message:
        number = int(context.node_config["partition-id"])
        reply = honest_reply(message, number, hospitals[number])
        if lie is not None and hospitals[number] == liar and message.metadata.message_type == phase:
            lie(reply, int(message.content["config"]["server-round"]))
        return reply

    app.train()(answer)
    app.evaluate()(answer)
    strategy = AggregatorStrategy(
        aggregator or FedAvg(),
        names=[f"site {hospital}" for hospital in hospitals] if named else (),
        nodes=len(hospitals),
        rounds=rounds,
        evaluate=evaluate,
    )

    @server.main()
    def main(grid: Grid, context: Context) -> None:
        wrap(grid)
        arrays = START
        for number in range(1, rounds + 1):
            arrays = strategy.train_round(number, arrays, grid)
            strategy.evaluate_round(number, arrays, grid)

    run_local(server, app, len(hospitals), progress=False)
    return strategy


def same_arrays(left, right) -> bool:
    """Whether two results have the same names, types and bits."""
    return list(left) == list(right) and all(
        left[name].dtype == right[name].dtype and np.array_equal(left[name], right[name]) for name in left
    )
