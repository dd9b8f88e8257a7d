"""The files of the page: what they hold, and what is refused. That they work is held in test_browser.py."""

import base64
import gzip
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray

from export import files, verify
from export.bundle import BundleError, Extras, manifest_of, write_bundle
from export.web import page as module
from export.web.page import STATIC
from export.web.runtime import VERSION, Runtime

RUNTIME = Runtime(b"export {};", b"\0asm" * 1000)
IMAGES = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3), np.uint8)
Exported = Callable[..., Path]


def made(folder: Path, model: Path, **known: Any) -> dict[str, bytes]:
    """The files of the page in a bundle of a model."""
    write_bundle(folder, model=model, manifest=manifest_of(model), extras=Extras(RUNTIME), **known)
    return {path.name: path.read_bytes() for path in (folder / "web").iterdir()}


def constant(script: bytes, name: str) -> Any:
    found = re.fullmatch(rf'"use strict";\nconst {name} = (.*);\n', script.decode("ascii"))
    assert found is not None
    return json.loads(found[1])


def numbers(text: str, kind: str) -> NDArray[Any]:
    return np.frombuffer(base64.b64decode(text), kind)


def test_the_scripts_hold_the_model_its_examples_and_the_runtime(exported: Exported, tmp_path: Path) -> None:
    held = made(tmp_path, exported(), examples=IMAGES, tolerance=1e-3)
    assert set(held) - {"ThirdPartyNotices.txt"} == {*STATIC, "README.md", "LICENSE.onnxruntime-web.txt", "model.js", "runtime.js"}
    model = constant(held["model.js"], "MODEL")
    assert base64.b64decode(model["content"]) == exported().read_bytes()
    assert (model["sha256"], model["bytes"]) == (files.digest(exported()), exported().stat().st_size)
    assert model["input"] == {"name": "images", "height": 8, "width": 8, "channels": 3}
    assert model["output"] == {"name": "probabilities", "logits": False}
    assert model["classes"] == ["bird", "cat", "dog", "fisch ß"]
    assert model["examples"]["count"] == 3
    np.testing.assert_array_equal(numbers(model["examples"]["pixels"], "u1"), IMAGES.ravel())
    [answers] = onnxruntime.InferenceSession(exported()).run(["probabilities"], {"images": IMAGES})
    np.testing.assert_allclose(numbers(model["answers"], "<f4"), answers.ravel(), atol=1e-6)
    assert model["tolerance"] == 1e-3
    runtime = constant(held["runtime.js"], "RUNTIME")
    assert (runtime["version"], base64.b64decode(runtime["script"])) == (VERSION, RUNTIME.script)
    assert gzip.decompress(base64.b64decode(runtime["binary"])) == RUNTIME.binary
    assert b"Copyright (c) Microsoft Corporation" in held["LICENSE.onnxruntime-web.txt"]
    assert verify.verify(tmp_path)["problems"] == []
    assert "open `web/index.html`" in (tmp_path / "README.md").read_text()


def test_a_model_without_examples_has_a_page(exported: Exported, tmp_path: Path) -> None:
    model = constant(made(tmp_path, exported())["model.js"], "MODEL")
    assert (model["examples"], model["answers"]) == ({"count": 0, "pixels": ""}, "")


def test_logits_and_classes_without_names_do(exported: Exported) -> None:
    manifest = manifest_of(exported())
    manifest["outputs"] = [manifest["outputs"][0]]
    held = module.page(b"", manifest, [], {}, RUNTIME)
    model = constant(held["model.js"], "MODEL")
    assert (model["output"], model["classes"]) == ({"name": "logits", "logits": True}, ["0", "1", "2", "3"])


def test_a_bundle_without_a_page_says_how_to_get_one(exported: Exported, tmp_path: Path) -> None:
    write_bundle(tmp_path, model=exported(), manifest=manifest_of(exported()))
    assert [path.name for path in (tmp_path / "web").iterdir()] == ["README.md"]
    assert "nasflow run --set export.web=true" in (tmp_path / "web" / "README.md").read_text()
    assert "web/" not in (tmp_path / "README.md").read_text()


@pytest.mark.parametrize(
    ("port", "output", "sentence"),
    [
        ({"dtype": "float32"}, {}, "the model takes float32 batch x 8 x 8 x 3, but a page needs uint8"),
        ({"shape": ["batch", 8, 8, 4]}, {}, "batch x 8 x 8 x 4, but a page needs"),
        ({"shape": ["batch", "height", 8, 3]}, {}, "batch x height x 8 x 3, but a page needs"),
        ({"shape": ["batch", 3]}, {}, "uint8 batch x 3, but a page needs"),
        ({}, {"shape": ["batch", 4, 4]}, "probabilities batch x 4 x 4 for 4 names, but a page needs N x classes"),
        ({}, {"shape": ["batch", 5]}, "probabilities batch x 5 for 4 names"),
    ],
)
def test_what_a_page_cannot_show_is_refused(
    exported: Exported, tmp_path: Path, port: dict[str, Any], output: dict[str, Any], sentence: str
) -> None:
    manifest = manifest_of(exported())
    manifest["inputs"] = [manifest["inputs"][0] | port]
    manifest["outputs"] = [manifest["outputs"][0], manifest["outputs"][1] | output]
    with pytest.raises(BundleError, match=re.escape(sentence)):
        write_bundle(tmp_path, model=exported(), manifest=manifest, extras=Extras(RUNTIME))
    assert list(tmp_path.iterdir()) == []


def test_the_page_names_its_files_and_forbids_itself_the_network() -> None:
    source = (Path(module.__file__).parent / "index.html").read_text()
    named = re.findall(r'(?:src|href)="([^"]+)"', source)
    assert set(named) == {*STATIC, "model.js", "runtime.js", "data:,"} - {"index.html"}
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', source)
    assert policy is not None
    rules = dict(rule.strip().split(" ", 1) for rule in policy[1].split(";"))
    assert (rules["default-src"], rules["connect-src"]) == ("'none'", "'none'")
    assert "http" not in policy[1]


@pytest.mark.parametrize("name", sorted(STATIC))
def test_scripts_keep_the_house_rules(name: str) -> None:
    source = (Path(module.__file__).parent / name).read_text()
    assert len(source.splitlines()) <= 300
    assert "innerHTML" not in source, "names of classes are a user's, and no markup"
    assert not re.search(r"https?://", source)
