"""Whatever is sent, the server does not fail; and what it says of itself in OpenAPI is true."""

import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from asgi_client import Client
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis.specs.openapi.checks import positive_data_acceptance
from served import looked_up

from export.serving.application import Application
from export.serving.limits import Limits
from export.serving.model import Model

INFER = "/v2/models/model/infer"
SEVERAL = settings(max_examples=100, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
# JSON Schema has no words for "as many elements as the product of the shape", so not all that it allows is accepted.
UNSAYABLE = [positive_data_acceptance]
GOOD = looked_up([0, 3], [[1, 2.5], [-3, 0]], [[True, False], [True, True]]) | {"id": "a", "outputs": [{"name": "found"}]}

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=True)
    | st.text(max_size=8)
    | st.sampled_from(["place", "scale", "keep", "found", "INT64", "FP32", "BOOL", 10**400]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["name", "data", "shape", "x"]), inner, max_size=3),
    max_leaves=8,
)


@pytest.fixture(scope="module")
def fuzzed(table: Model) -> Iterator[Client]:
    with Client(Application(table, Limits(batch=4, body=10_000))) as opened:
        yield opened


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The paths of all members and elements of a JSON value."""
    keys = value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys:
        yield (*path, key)
        yield from places(value[key], (*path, key))


def put(request: dict[str, Any], path: tuple[Any, ...], value: Any) -> None:
    """Set what is at a path; nothing happens where an earlier change has removed it."""
    holder: Any = request
    try:
        for key in path[:-1]:
            holder = holder[key]
        holder[path[-1]] = value
    except (KeyError, IndexError, TypeError):
        pass


def held(answer: Any) -> None:
    """Answers are of the server's own making: success, or a sentence."""
    assert answer.status_code in {200, 400, 413, 415}
    if answer.status_code != 200:
        assert list(answer.json()) == ["error"]
        assert 0 < len(answer.json()["error"]) < 500


@SEVERAL
@given(changes=st.lists(st.tuples(st.sampled_from(sorted(places(GOOD), key=repr)), values), min_size=1, max_size=3))
def test_a_request_with_wrong_parts(fuzzed: Client, changes: list[tuple[tuple[Any, ...], Any]]) -> None:
    request = copy.deepcopy(GOOD)
    for path, value in changes:
        put(request, path, value)
    held(fuzzed.post(INFER, content=json.dumps(request)))


@SEVERAL
@given(
    body=st.binary(max_size=200) | values.map(lambda value: json.dumps(value).encode()),
    headers=st.dictionaries(
        st.sampled_from(["content-type", "content-encoding", "inference-header-content-length", "content-length", "expect"]),
        st.sampled_from(["", "0", "7", "-1", "x", "\xb2", "application/json", "application/octet-stream", "gzip", "99999999999999999999"]),
        max_size=3,
    ),
)
def test_any_bytes_with_any_head(fuzzed: Client, body: bytes, headers: dict[str, str]) -> None:
    held(fuzzed.post(INFER, content=body, headers={name: value.encode("latin-1") for name, value in headers.items()}))  # type: ignore[misc]


@SEVERAL
@given(cut=st.integers(0, 600), raw=st.binary(max_size=40), size=st.integers(-5, 50))
def test_raw_tensors_that_are_cut_anywhere(fuzzed: Client, cut: int, raw: bytes, size: int) -> None:
    request = copy.deepcopy(GOOD)
    del request["inputs"][1]["data"]
    request["inputs"][1]["parameters"] = {"binary_data_size": size}
    body = json.dumps(request).encode() + raw
    held(fuzzed.post(INFER, content=body[:cut], headers={"inference-header-content-length": str(min(cut, len(body) - len(raw)))}))


def test_a_body_of_the_largest_size_and_one_above(fuzzed: Client) -> None:
    body = json.dumps(GOOD).encode()
    assert fuzzed.post(INFER, content=body.ljust(10_000)).status_code == 200
    assert fuzzed.post(INFER, content=body.ljust(10_001)).status_code == 413
    assert fuzzed.post(INFER, content=iter_bytes(body.ljust(10_000), 999)).status_code == 200
    assert fuzzed.post(INFER, content=iter_bytes(body.ljust(10_001), 999)).status_code == 413


async def iter_bytes(body: bytes, size: int) -> Any:
    """The body in pieces, so that its length is not said before."""
    for begin in range(0, len(body), size):
        yield body[begin : begin + size]


@pytest.mark.parametrize(("which", "paths"), [("classifier", ["/v2", "/v2/models/model", INFER]), ("table", [INFER])])
def test_the_description_is_true(which: str, paths: list[str], request: pytest.FixtureRequest) -> None:
    model: Model = request.getfixturevalue(which)
    with Client(Application(model, Limits(batch=4))) as client:
        schema = schemathesis.openapi.from_dict(client.get("/openapi.json").json())
        operations = {operation.ok().path: operation.ok() for operation in schema.get_all_operations()}
        for path in paths:
            fuzz(client, operations[path], 40 if path == INFER else 3)


def fuzz(client: Client, operation: schemathesis.APIOperation, examples: int) -> None:
    """Ask an operation what its description allows, and what it forbids; both must be answered as described."""
    modes = list(schemathesis.GenerationMode)

    @settings(SEVERAL, max_examples=examples)
    @given(case=st.one_of(*[operation.as_strategy(generation_mode=mode) for mode in modes]))
    def asked(case: schemathesis.Case) -> None:
        sent = case.as_transport_kwargs(base_url="http://served")
        answer = client.request(sent.pop("method"), sent.pop("url"), **{key: value for key, value in sent.items() if value})
        case.validate_response(answer, excluded_checks=UNSAYABLE)

    asked()
