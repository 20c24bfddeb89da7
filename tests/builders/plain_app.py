"""A Flower client app that trains nothing: it adds its number to every array, and counts its calls."""

from flwr.app import Array, ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

app = ClientApp()


@app.train()
def train(message: Message, context: Context) -> Message:
    number = context.node_config["partition-id"]
    if number == 0 and message.content["config"]["server-round"] == 3:
        raise RuntimeError("the scanner is on fire")
    calls = context.state["calls"]["count"] + 1 if "calls" in context.state else 1
    context.state["calls"] = MetricRecord({"count": calls})
    arrays = {name: Array(value.numpy() + number) for name, value in message.content["arrays"].items()}
    metrics = MetricRecord({"num-examples": 1, "calls": calls, "partition-id": number})
    return Message(RecordDict({"arrays": ArrayRecord(arrays), "metrics": metrics}), reply_to=message)
