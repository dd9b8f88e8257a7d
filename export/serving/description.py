"""What the server says of itself in OpenAPI: the protocol's records, and the inference route for the very model that is served."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import orjson
from pydantic import BaseModel, Field

from export.serving.limits import Limits
from export.serving.model import OPEN, VERSION, Model, Port


class Problem(BaseModel):
    """Why a request was refused."""

    error: str = Field(description="One sentence: the value, the rule and the cure.")


class Live(BaseModel):
    """The process answers."""

    live: bool


class Ready(BaseModel):
    """The model is loaded and has run."""

    ready: bool


class ServerMetadata(BaseModel):
    """The server, and the extensions of the protocol that it speaks."""

    name: str
    version: str
    extensions: list[str]


class TensorMetadata(BaseModel):
    """An input or output; -1 is a dimension of any size of at least 1."""

    name: str
    datatype: str
    shape: list[int]


class ModelMetadata(BaseModel):
    """What the model takes and gives. parameters: classes, their names as a JSON list in text, where they are known; sha256 of the file."""

    name: str
    versions: list[str]
    platform: Literal["onnx_onnxv1"] = "onnx_onnxv1"
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]
    parameters: dict[str, str]


class ModelReady(BaseModel):
    """Whether the model can answer."""

    name: str
    ready: bool


PROBLEM = {"$ref": "#/components/schemas/Problem"}
REFUSALS: Mapping[int, str] = {
    400: "The body is not a request that this model can answer",
    404: "No such model, version or page",
    405: "Another method",
    408: "The body did not come in time",
    413: "The body is too large",
    415: "The body is of another type",
    503: "As many requests are under way as the server holds; Retry-After says when to come back",
}
_PARAMETERS: dict[str, Any] = {"anyOf": [{"type": "object"}, {"type": "null"}]}
_NUMBERS: Mapping[str, tuple[float, float]] = {"UINT8": (0, 2**8 - 1), "INT8": (-(2**7), 2**7 - 1), "INT32": (-(2**31), 2**31 - 1)} | {
    "INT64": (-(2**63), 2**63 - 1),
    "FP16": (-65504.0, 65504.0),
    "FP32": (-3.4028234e38, 3.4028234e38),
    "FP64": (-1.7976931348623157e308, 1.7976931348623157e308),
}


def metadata(model: Model) -> ModelMetadata:
    """The answer to "what do you take and give"."""
    found = {"sha256": model.sha256}
    if model.classes:
        found["classes"] = orjson.dumps(model.classes).decode()
    return ModelMetadata(
        name=model.name,
        versions=[VERSION],
        inputs=[TensorMetadata(name=port.name, datatype=port.datatype, shape=list(port.shape)) for port in model.inputs],
        outputs=[TensorMetadata(name=port.name, datatype=port.datatype, shape=list(port.shape)) for port in model.outputs],
        parameters=found,
    )


def inference(model: Model, limits: Limits) -> dict[str, Any]:
    """The OpenAPI operation of the inference route."""
    refused = {str(code): {"description": text, "content": {"application/json": {"schema": PROBLEM}}} for code, text in REFUSALS.items()}
    return {
        "summary": "Run the model",
        "description": (
            f"At most {limits.batch} rows and {limits.body} bytes. Raw tensors may follow the JSON (application/octet-stream, with "
            "Inference-Header-Content-Length), as the protocol's extension for binary data says."
        ),
        "requestBody": {"required": True, "content": {"application/json": {"schema": _request(model, limits)}}},
        "responses": {
            "200": {"description": "The outputs", "content": {"application/json": {"schema": _response(model)}}},
            **refused,
        },
    }


def _request(model: Model, limits: Limits) -> dict[str, Any]:
    inputs = [_input(port, limits) for port in model.inputs]
    names = {"enum": [port.name for port in model.outputs]}
    output = {"type": "object", "required": ["name"], "properties": {"name": names, "parameters": _binary("binary_data")}}
    return {
        "type": "object",
        "required": ["inputs"],
        "properties": {
            "id": {"anyOf": [{"type": "string"}, {"type": "null"}]},
            "parameters": _binary("binary_data_output"),
            "inputs": {"type": "array", "minItems": len(inputs), "maxItems": len(inputs), "items": _one_of(inputs)},
            "outputs": {"anyOf": [{"type": "array", "items": output, "maxItems": len(model.outputs)}, {"type": "null"}]},
        },
    }


def _binary(name: str) -> dict[str, Any]:
    return {"anyOf": [{"type": "object", "properties": {name: {"type": "boolean"}}}, {"type": "null"}]}


def _one_of(choices: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return choices[0] if len(choices) == 1 else {"oneOf": list(choices)}


def _input(port: Port, limits: Limits) -> dict[str, Any]:
    sizes = [{"type": "integer", "minimum": 1} if size == OPEN else {"const": size} for size in port.shape]
    if sizes and port.shape[0] == OPEN:
        sizes[0] = {"type": "integer", "minimum": 1, "maximum": limits.batch}
    return {
        "type": "object",
        "required": ["name", "shape", "datatype", "data"],
        "properties": {
            "name": {"const": port.name},
            "datatype": {"const": port.datatype},
            "shape": {"type": "array", "prefixItems": sizes, "minItems": len(sizes), "maxItems": len(sizes)},
            "parameters": _PARAMETERS,
            "data": {
                "type": "array",
                "items": _element(port.datatype),
                "minItems": 1,
                "description": "As many as the product of the shape, in row-major order; lists nested as the shape says are taken, too.",
            },
        },
    }


def _element(datatype: str) -> dict[str, Any]:
    if datatype == "BOOL":
        return {"type": "boolean"}
    least, most = _NUMBERS[datatype]
    return {"type": "number" if datatype.startswith("FP") else "integer", "minimum": least, "maximum": most}


def _response(model: Model) -> dict[str, Any]:
    outputs = [_output(port) for port in model.outputs]
    properties = {
        "model_name": {"const": model.name},
        "model_version": {"const": VERSION},
        "id": {"type": "string"},
        "outputs": {"type": "array", "minItems": 1, "items": _one_of(outputs)},
    }
    required = ["model_name", "model_version", "outputs"]
    if model.labelled is not None:
        labels = {"type": "string", "description": "The class of each row with the largest number: a JSON list as text"}
        properties["parameters"] = {
            "type": "object",
            "required": ["labels"],
            "properties": {"labels": labels},
        }
        required.append("parameters")
    return {"type": "object", "required": required, "properties": properties}


def _output(port: Port) -> dict[str, Any]:
    element = {"type": "boolean"} if port.datatype == "BOOL" else {"type": ["number", "null"]}
    size = {"type": "integer", "minimum": 0}
    return {
        "type": "object",
        "required": ["name", "shape", "datatype"],
        "properties": {
            "name": {"const": port.name},
            "datatype": {"const": port.datatype},
            "shape": {"type": "array", "items": size, "minItems": len(port.shape), "maxItems": len(port.shape)},
            "data": {"type": "array", "items": element, "description": "In row-major order; missing where raw bytes were asked for."},
            "parameters": {"type": "object", "properties": {"binary_data_size": size}},
        },
    }
