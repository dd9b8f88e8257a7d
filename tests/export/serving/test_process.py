"""The command as a process: it listens, answers many connections, and ends in good order."""

import json
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import psutil
import pytest
from served import IMAGES, images
from serving_process import serving

from export.serving.model import Model


def test_a_request_under_way_is_answered_before_the_end(classifier_bundle: Path) -> None:
    with serving(classifier_bundle, "--max-delay-ms", "1000") as (process, address), ThreadPoolExecutor(1) as pool:
        assert httpx.get(f"{address}/ready", timeout=60).json()["ready"]
        asked = pool.submit(httpx.post, f"{address}/infer", json=images(IMAGES[:1]), timeout=60)
        metrics = httpx.URL(address).copy_with(path="/metrics")
        while "nasflow_queue_requests 1.0" not in httpx.get(metrics, timeout=60).text:
            pass
        process.send_signal(signal.SIGTERM)
        assert asked.result().status_code == 200
        assert process.wait(60) == 128 + signal.SIGTERM
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{address}/ready")
        assert process.stderr is not None
        assert process.stderr.read() == "nasflow: stopped: what was under way has been answered\n"


def test_many_connections_at_once_and_ctrl_c(classifier_bundle: Path, classifier: Model) -> None:
    [expected, _] = classifier.run({"images": IMAGES})
    with serving(classifier_bundle, "--name", "birds", "--max-body-mb", "0.01") as (process, address):
        assert address.endswith("/v2/models/birds")
        assert psutil.Process(process.pid).children() == []
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda place: _logits(address, place), range(8)))
        assert np.allclose(np.concatenate(answers), np.repeat(expected, 3, axis=0), atol=1e-5)
        large = json.dumps(images(IMAGES)).ljust(5_000_000).encode()
        assert httpx.post(f"{address}/infer", content=large, timeout=60).status_code == 413
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 128 + signal.SIGINT


def _logits(address: str, place: int) -> np.ndarray:
    """The answers to three requests on one connection, one after the other."""
    request = images(IMAGES[place : place + 1], outputs=[{"name": "logits"}])
    with httpx.Client(timeout=60) as client:
        found = [client.post(f"{address}/infer", json=request).json()["outputs"][0] for _ in range(3)]
    return np.concatenate([np.reshape(output["data"], output["shape"]) for output in found])
