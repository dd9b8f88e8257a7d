"""The server speaks the Open Inference Protocol: paths, records, codes."""

import json
from typing import Any

import jsonschema
import numpy as np
import pytest
from asgi_client import Client
from served import IMAGES, encoded, images, looked_up

from export.serving.application import Application
from export.serving.limits import Limits
from export.serving.model import Model

INFER = "/v2/models/model/infer"
ROOTS = ["/v2/models/model", "/v2/models/model/versions/1"]


def test_the_server_and_its_health(client: Client) -> None:
    about = client.get("/v2").json()
    assert about["name"] == "nasflow"
    assert about["extensions"] == ["binary_tensor_data"]
    assert client.get("/v2/health/live").json() == {"live": True}
    assert client.get("/v2/health/ready").json() == {"ready": True}


@pytest.mark.parametrize("root", ROOTS)
def test_the_model(client: Client, classifier: Model, root: str) -> None:
    about = client.get(root).json()
    assert json.loads(about["parameters"].pop("classes")) == ["bird", "cat", "dog", "fisch ß"]
    assert about == {
        "name": "model",
        "versions": ["1"],
        "platform": "onnx_onnxv1",
        "inputs": [{"name": "images", "datatype": "UINT8", "shape": [-1, 8, 8, 3]}],
        "outputs": [{"name": name, "datatype": "FP32", "shape": [-1, 4]} for name in ("logits", "probabilities")],
        "parameters": {"sha256": classifier.sha256},
    }
    assert client.get(f"{root}/ready").json() == {"name": "model", "ready": True}


@pytest.mark.parametrize("root", ROOTS)
def test_an_inference(client: Client, classifier: Model, root: str) -> None:
    answer = client.post(f"{root}/infer", json=images(IMAGES[:3], id="seven"))
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    found = answer.json()
    outputs = found.pop("outputs")
    logits, probabilities = classifier.run({"images": IMAGES[:3]})
    names = [classifier.classes[place] for place in probabilities.argmax(axis=1)]
    labels = json.dumps(names, ensure_ascii=False, separators=(",", ":"))
    assert found == {"model_name": "model", "model_version": "1", "id": "seven", "parameters": {"labels": labels}}
    assert [(output["name"], output["datatype"], output["shape"]) for output in outputs] == [
        ("logits", "FP32", [3, 4]),
        ("probabilities", "FP32", [3, 4]),
    ]
    for output, expected in zip(outputs, (logits, probabilities), strict=True):
        assert np.array_equal(np.array(output["data"], np.float32).reshape(3, 4), expected)  # JSON holds every bit of a float


def test_chosen_outputs(client: Client) -> None:
    found = client.post(INFER, json=images(IMAGES[:1], outputs=[{"name": "probabilities"}])).json()
    assert [output["name"] for output in found["outputs"]] == ["probabilities"]
    assert "id" not in found


def test_raw_tensors_in_and_out(client: Client, classifier: Model) -> None:
    request = images(IMAGES[:2], outputs=[{"name": "probabilities", "parameters": {"binary_data": True}}, {"name": "logits"}])
    del request["inputs"][0]["data"]
    request["inputs"][0]["parameters"] = {"binary_data_size": IMAGES[:2].nbytes}
    body, headers = encoded(request, IMAGES[:2].tobytes())
    answer = client.post(INFER, content=body, headers=headers)
    length = int(answer.headers["inference-header-content-length"])
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/octet-stream")
    probabilities, logits = json.loads(answer.content[:length])["outputs"]
    assert probabilities == {"name": "probabilities", "shape": [2, 4], "datatype": "FP32", "parameters": {"binary_data_size": 32}}
    expected = classifier.run({"images": IMAGES[:2]})
    assert answer.content[length:] == expected[1].astype("<f4").tobytes()
    assert np.allclose(np.reshape(logits["data"], (2, 4)), expected[0])


def test_a_model_without_classes(table: Model) -> None:
    request = looked_up([1, 3], [[1, 2], [3, 4]], [[True, True], [True, False]])
    with Client(Application(table, Limits(batch=4))) as client:
        found = client.post(INFER, json=request).json()
        assert found == {
            "model_name": "model",
            "model_version": "1",
            "outputs": [{"name": "found", "shape": [2, 2], "datatype": "FP32", "data": [2.0, 4.0, 24.0, 0.0]}],
        }
        request["inputs"][0]["data"] = [1, 4]
        answer = client.post(INFER, json=request)
        assert answer.status_code == 400
        assert answer.json()["error"].startswith("the model cannot run on these inputs: ")


@pytest.mark.parametrize(
    ("method", "path", "code", "sentence"),
    [
        ("GET", "/", 404, "nothing is at /: this server has the model model, version 1"),
        ("GET", "/v2/models/other", 404, "nothing is at /v2/models/other"),
        ("GET", "/v2/models/model/versions/2/ready", 404, "nothing is at /v2/models/model/versions/2/ready"),
        ("POST", "/v2/models/other/infer", 404, "nothing is at /v2/models/other/infer"),
        ("POST", "/v2", 405, "POST is not for /v2: use GET"),
        ("GET", INFER, 405, "GET is not for inference requests: use POST"),
        ("POST", INFER, 400, "the body is not JSON"),
    ],
)
def test_errors_are_sentences(client: Client, method: str, path: str, code: int, sentence: str) -> None:
    answer = client.request(method, path)
    assert (answer.status_code, answer.headers["content-type"]) == (code, "application/json")
    assert list(answer.json()) == ["error"]
    assert answer.json()["error"].startswith(sentence)
    assert (answer.headers.get("allow") is not None) == (code == 405)


@pytest.mark.parametrize(
    ("headers", "code", "sentence"),
    [
        ({"content-type": "text/plain"}, 415, "the content type is text/plain, but must be application/json"),
        ({"content-type": "application/octet-stream"}, 415, "the content type is application/octet-stream"),
        ({"content-type": "application/json; charset=utf-8"}, 200, ""),
        ({"content-type": ""}, 415, "the content type is "),
        ({"content-encoding": "gzip"}, 415, "the body is compressed"),
        ({"inference-header-content-length": "-1"}, 400, "Inference-Header-Content-Length must be a number of bytes"),
        ({"inference-header-content-length": "9" * 5000}, 400, "Inference-Header-Content-Length must be a number of bytes"),
        ({"content-length": "9" * 18}, 413, "the body is larger than 16777216 bytes"),
    ],
)
def test_the_head_of_a_request(client: Client, headers: dict[str, str], code: int, sentence: str) -> None:
    answer = client.post(INFER, content=json.dumps(images(IMAGES[:1])), headers=headers)
    assert answer.status_code == code
    assert sentence == "" or answer.json()["error"].startswith(sentence)


def test_a_request_without_content_type_is_json(client: Client) -> None:
    assert client.post(INFER, content=json.dumps(images(IMAGES[:1]))).status_code == 200


def test_numbers_for_prometheus(client: Client) -> None:
    client.post_together(INFER, [{"json": images(IMAGES[:2])}] * 3)
    client.post(INFER, json={})
    client.get("/nowhere")
    lines = dict(line.rsplit(" ", 1) for line in client.get("/metrics").text.splitlines() if not line.startswith("#"))
    assert lines['nasflow_requests_total{code="200",kind="inference"}'] == "3.0"
    assert lines['nasflow_requests_total{code="400",kind="inference"}'] == "1.0"
    assert lines['nasflow_requests_total{code="404",kind="other"}'] == "1.0"
    assert lines["nasflow_inference_seconds_count"] == "4.0"
    assert lines["nasflow_batch_rows_sum"] == "6.0"
    assert lines["nasflow_batch_requests_sum"] == "3.0"
    assert lines["nasflow_queue_requests"] == "0.0"
    assert [line for line in lines if line.startswith("nasflow_model_info{") and 'model="model"' in line]


def test_the_description_is_valid_and_holds_for_real_answers(client: Client) -> None:
    document = client.get("/openapi.json").json()
    assert {path for path in document["paths"] if path.startswith("/v2/models")} == {
        f"{root}{end}" for root in ROOTS for end in ("", "/ready", "/infer")
    }
    for root in ROOTS:
        operation = document["paths"][f"{root}/infer"]["post"]
        asked, answered = (
            part["content"]["application/json"]["schema"] for part in (operation["requestBody"], operation["responses"]["200"])
        )
        for schema in (asked, answered):
            jsonschema.Draft202012Validator.check_schema(schema)
        request = images(IMAGES[:2], id="a", outputs=[{"name": "logits"}])
        jsonschema.validate(request, asked)
        jsonschema.validate(client.post(f"{root}/infer", json=request).json(), answered)
        for wrong in _wrong(request):
            with pytest.raises(jsonschema.ValidationError):
                jsonschema.validate(wrong, asked)


def _wrong(request: dict[str, Any]) -> list[dict[str, Any]]:
    [tensor] = request["inputs"]
    members: list[dict[str, Any]] = [{"datatype": "FP32"}, {"name": "other"}, {"data": [256]}]
    members += [{"shape": [2, 8, 8]}, {"shape": [65, 8, 8, 3]}, {"shape": [True, 8, 8, 3]}]
    return [{"inputs": [tensor | member]} for member in members] + [{"inputs": []}, request | {"id": 7}, request | {"outputs": [{}]}]
