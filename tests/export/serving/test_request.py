"""A request becomes exactly the arrays that it says, or is refused in a sentence."""

import json
from typing import Any

import numpy as np
import pytest
from served import IMAGES, encoded, images, looked_up, tensor

from export.serving.errors import RequestError
from export.serving.model import Model
from export.serving.request import InferenceRequest, Reader, Wanted

GOOD = looked_up([0, 3], [[1, 2.5], [-3, 0]], [[True, False], [True, True]])


def read(request: Any, model: Model, header_length: int | None = None) -> InferenceRequest:
    body = request if isinstance(request, bytes) else json.dumps(request).encode()
    return Reader(model, 4).read(body, header_length)


def test_flat_and_nested_lists_are_the_same_arrays(classifier: Model, table: Model) -> None:
    nested = images(IMAGES[:3])
    nested["inputs"][0]["data"] = IMAGES[:3].tolist()
    half = images(IMAGES[:3])
    half["inputs"][0]["data"] = IMAGES[:3].reshape(3, -1).tolist()
    for request in (images(IMAGES[:3]), nested):
        found = read(request, classifier)
        assert found.rows == 3
        assert found.feed["images"].dtype == np.uint8
        assert np.array_equal(found.feed["images"], IMAGES[:3])
    with pytest.raises(RequestError, match="not nested as their shape"):
        read(half, classifier)
    found = read(GOOD, table)
    assert [array.tolist() for array in found.feed.values()] == [[0, 3], [[1, 2.5], [-3, 0]], [[True, False], [True, True]]]
    assert [array.dtype.name for array in found.feed.values()] == ["int64", "float32", "bool"]


def test_names_and_outputs(classifier: Model) -> None:
    found = read(images(IMAGES[:1]), classifier)
    assert (found.key, found.wanted) == (None, (Wanted(0, False), Wanted(1, False)))
    chosen = images(IMAGES[:1], id="seven", outputs=[{"name": "probabilities", "parameters": {"binary_data": True}}, {"name": "logits"}])
    found = read(chosen, classifier)
    assert (found.key, found.wanted) == ("seven", (Wanted(1, True), Wanted(0, False)))
    assert read(images(IMAGES[:1], parameters={"binary_data_output": True}), classifier).wanted == (Wanted(0, True), Wanted(1, True))
    assert read(images(IMAGES[:1], id=None, parameters=None, outputs=None, sequence=7), classifier).rows == 1


def test_raw_bytes(table: Model) -> None:
    scale = np.array([[1.5, np.nan]], np.float32)
    request = looked_up([1], [[0, 0]], [[True, True]])
    for entry, size in zip(request["inputs"][1:], (8, 2), strict=True):
        entry["parameters"] = {"binary_data_size": size}
        del entry["data"]
    body, headers = encoded(request, scale.tobytes(), b"\x02\x00")
    found = read(body, table, int(headers["Inference-Header-Content-Length"]))
    assert np.array_equal(found.feed["scale"], scale, equal_nan=True)
    assert found.feed["keep"].tolist() == [[True, False]]
    assert found.feed["place"].tolist() == [1]


def changed(place: int, **members: Any) -> dict[str, Any]:
    """GOOD with other members of one of its inputs."""
    inputs = [dict(entry) for entry in GOOD["inputs"]]
    inputs[place] |= members
    return {"inputs": inputs}


@pytest.mark.parametrize(
    ("request_", "match"),
    [
        (b"", "the body is not JSON"),
        (b"[" * 100_000, "the body is not JSON"),
        (b'{"inputs": NaN}', "the body is not JSON"),
        (b'"\\ud800"', "the body is not JSON"),
        ([], "must be a JSON object"),
        ({}, '"inputs" must be a list of objects'),
        ({"inputs": [1]}, '"inputs" must be a list of objects'),
        ({"inputs": [{}]}, '"inputs" names null, but the model has place, scale, keep'),
        ({"inputs": [{"name": ["place"]}]}, '"inputs" names a list'),
        ({"inputs": GOOD["inputs"][:2]}, "must hold all of place, scale, keep"),
        ({"inputs": [*GOOD["inputs"], GOOD["inputs"][0]]}, "names something twice"),
        ({**GOOD, "id": 7}, '"id" must be text'),
        ({**GOOD, "parameters": []}, '"parameters" of the request must be an object'),
        ({**GOOD, "parameters": {"binary_data_output": 1}}, '"binary_data_output" must be true or false'),
        ({**GOOD, "outputs": {}}, '"outputs" must be a list of objects'),
        ({**GOOD, "outputs": 0}, '"outputs" must be a list of objects'),
        ({**GOOD, "outputs": [{"name": "x" * 200}]}, r'"outputs" names "x{78}…, but the model has found'),
        ({**GOOD, "outputs": [{"name": "found"}] * 2}, "names something twice"),
        (changed(0, datatype="INT32"), 'the datatype of place is "INT32", but must be INT64'),
        (changed(0, datatype=None), "the datatype of place is null"),
        (changed(0, shape=2), "the shape of place must be a list of whole numbers"),
        (changed(0, shape=[True]), "the shape of place must be a list of whole numbers"),
        (changed(0, shape=[2.0]), "the shape of place must be a list of whole numbers"),
        (changed(0, shape=[0], data=[]), r"the shape of place is \[0\], but must be \[-1\]"),
        (changed(0, shape=[-1]), r"the shape of place is \[-1\]"),
        (changed(1, shape=[2, 3]), r"the shape of scale is \[2, 3\], but must be \[-1, 2\]"),
        (changed(1, shape=[4]), r"the shape of scale is \[4\], but must be \[-1, 2\]"),
        (changed(1, shape=[1] * 1000), "the shape of scale is of 1000 dimensions"),
        (changed(0, shape=[10**18]), r"2 elements, but the shape \[1000000000000000000\] has 1000000000000000000"),
        (changed(0, data="12"), "the data of place must be a list"),
        (changed(0, data=[1]), r"the data of place have 1 elements, but the shape \[2\] has 2"),
        (changed(0, data=[1.0, 2.0]), "the data of place must be whole numbers only, because it is INT64"),
        (changed(0, data=[True, 1]), "the data of place must be whole numbers only"),
        (changed(0, data=["1", "2"]), "the data of place must be whole numbers only"),
        (changed(0, data=[2**63, 1]), "the data of place hold a number outside of the range of INT64"),
        (changed(0, data=[10**30, 1]), "the data of place must be whole numbers only"),
        (changed(0, data=[[1], [2]]), "nested deeper than the 1 dimensions"),
        (changed(1, data=[1, 2, 3, None]), "the data of scale must be numbers only"),
        (changed(1, data=[1, 2, 3, 1e39]), "the data of scale hold a number outside of the range of FP32"),
        (changed(1, data=[[1, 2], [3]]), "the data of scale are not nested as their shape"),
        (changed(1, data=[[1, 2], 3, 4]), "the data of scale are not nested as their shape"),
        (changed(1, data=[[[1, 2], [3, 4]]]), "the data of scale are not nested as their shape"),
        (changed(2, data=[1, 0, 1, 1]), "the data of keep must be true and false only, because it is BOOL"),
        (changed(0, shape=[1], data=[1]), "the inputs have 1 and 2 rows, but must have as many as each other"),
        (looked_up([0] * 5, [[0, 0]] * 5, [[True, True]] * 5), "has 5 rows, at most 4 are allowed"),
        (changed(0, parameters={"binary_data_size": 8}), "binary_data_size of place is 8, but must be a number of the 0 bytes left"),
    ],
)
def test_what_cannot_be_answered_is_refused(table: Model, request_: Any, match: str) -> None:
    with pytest.raises(RequestError, match=match) as refused:
        read(request_, table)
    assert refused.value.code == 400


@pytest.mark.parametrize(("data", "accepted"), [([255] * 192, True), ([256] * 192, False), ([-1] * 192, False), ([0.0] * 192, False)])
def test_a_byte_is_a_byte(classifier: Model, data: list[Any], accepted: bool) -> None:
    request = {"inputs": [tensor("images", "UINT8", IMAGES[:1]) | {"data": data}]}
    if accepted:
        assert read(request, classifier).feed["images"].ravel().tolist() == data
    else:
        with pytest.raises(RequestError, match="the data of images"):
            read(request, classifier)


@pytest.mark.parametrize(
    ("size", "raw", "match"),
    [
        (16, b"\0" * 15, "binary_data_size of place is 16, but must be a number of the 15 bytes left"),
        (8, b"\0" * 8, "place has 8 bytes, but INT64 of shape"),
        (16, b"\0" * 17, "1 bytes follow the last input"),
        (-1, b"", "binary_data_size of place is -1"),
        ("16", b"\0" * 16, 'binary_data_size of place is "16"'),
    ],
)
def test_raw_bytes_must_be_as_many_as_said(table: Model, size: Any, raw: bytes, match: str) -> None:
    request = changed(0, parameters={"binary_data_size": size})
    del request["inputs"][0]["data"]
    body, headers = encoded(request, raw)
    with pytest.raises(RequestError, match=match):
        read(body, table, int(headers["Inference-Header-Content-Length"]))
    with pytest.raises(RequestError, match=r"Inference-Header-Content-Length is \d+, but the body has"):
        read(body, table, len(body) + 1)


def test_data_come_once(table: Model) -> None:
    body, headers = encoded(changed(0, parameters={"binary_data_size": 16}), b"\0" * 16)
    with pytest.raises(RequestError, match='place has "data" and binary_data_size: give one of them'):
        read(body, table, int(headers["Inference-Header-Content-Length"]))
