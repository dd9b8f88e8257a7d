"""What a server answers from: a bundle as it was read, once. What happens to the folder afterwards changes nothing."""

import json
import mmap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Self, final

from export import files
from export.serving.errors import ServingError, first_line


@final
@dataclass(frozen=True)
class Contents:
    """A bundle that is whole. folder: where it was. model: the bytes of model.onnx, whose digest is the manifest's sha256."""

    folder: Path
    manifest: Mapping[str, Any]
    model: bytes

    @property
    def sha256(self) -> str:
        """The digest of the model, 64 hexadecimal digits."""
        return str(self.manifest["sha256"])

    def write_to(self, stream: BinaryIO) -> None:
        """Write all of it for another process: a line of JSON, then the model."""
        stream.write(json.dumps([str(self.folder), self.manifest]).encode() + b"\n")
        stream.write(self.model)
        stream.flush()

    @classmethod
    def read_from(cls, descriptor: int) -> Self:
        """What `write_to` has written to a file, wherever others that have it open are reading."""
        with mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ) as mapped:
            folder, manifest = json.loads(mapped.readline())
            return cls(Path(folder), manifest, mapped.read())


def read(folder: Path) -> Contents:
    """The bundle in `folder`. Raises ServingError when it is not whole, or the model is not the manifest's."""
    manifest, model = _manifest(folder), _model(folder)
    found = files.digest_of(model)
    if found != manifest.get("sha256"):
        raise ServingError(
            f"{folder / 'model.onnx'} is not the file in manifest.json (sha256 {found[:12]}, not {str(manifest.get('sha256'))[:12]}): "
            "copy the bundle again"
        )
    return Contents(folder, manifest, model)


def _manifest(folder: Path) -> dict[str, Any]:
    path = folder / "manifest.json"
    if not path.is_file():
        raise ServingError(f"there is no bundle in {folder}: manifest.json is missing; run `nasflow stage export`, or name its folder")
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ServingError(f"{path} cannot be read ({first_line(error)}): copy the bundle again") from error
    if not isinstance(manifest, dict):
        raise ServingError(f"{path} holds {type(manifest).__name__}, but must hold a mapping: copy the bundle again")
    return manifest


def _model(folder: Path) -> bytes:
    try:
        return (folder / "model.onnx").read_bytes()
    except OSError as error:
        raise ServingError(f"{folder / 'model.onnx'} cannot be read ({error.strerror}): copy the bundle again") from error
