"""Serve archives of the true layout, made of miniatures, from this process."""

import hashlib
import http.server
import re
import tarfile
import time
import zipfile
from dataclasses import replace
from pathlib import Path

from datasets import ON_DISK


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serve files with ranges, as the hosts do; `slow` is the wait between blocks in seconds."""

    ranges, slow, log = True, 0.0, []

    def do_GET(self):
        path = Path(self.translate_path(self.path))
        if not path.is_file():
            return self.send_error(404)
        size, first = path.stat().st_size, 0
        match = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if match and type(self).ranges:
            first = int(match[1])
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {first}-{size - 1}/{size}")
        else:
            self.send_response(200)
        type(self).log.append((path.name, first))
        self.send_header("Content-Length", str(size - first))
        self.end_headers()
        with path.open("rb") as file:
            file.seek(first)
            try:
                while block := file.read(1 << 16):
                    self.wfile.write(block)
                    time.sleep(type(self).slow)
            except (BrokenPipeError, ConnectionResetError):
                pass  # the client ended

    def log_message(self, *_):
        pass


def write_archive(path: Path, members: list[tuple[str, Path]]) -> None:
    """Write an archive of the type in its name, with folders or files under these names."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            for name, source in members:
                for file in [source] if source.is_file() else sorted(source.rglob("*")):
                    inside = file.relative_to(source)
                    archive.write(file, name if source.is_file() else f"{name}/{inside}")
        return
    with tarfile.open(path, "w" if path.suffix == ".tar" else "w:gz") as archive:
        for name, source in members:
            archive.add(source, name)


def serve(name: str, world, folder: Path, monkeypatch) -> None:
    """Put the sources of a data set on the server, made of its miniature; checksums follow."""
    loader, sources = ON_DISK[name], []
    for source in loader.sources:
        path = folder / loader.dataset_dir / source.name
        path.parent.mkdir(parents=True, exist_ok=True)
        members = [(member, world.folder / target) for member, target in source.places]
        if source.inner:
            inner = folder / Path(source.inner).name
            write_archive(inner, members)
            members = [(source.inner, inner)]
        if members:
            write_archive(path, members)
        else:
            names = world.root / "imagenet" / source.name
            wanted = world.folder / source.name
            path.write_bytes((wanted if wanted.exists() else names).read_bytes())
        checksum = ""
        if source.checksum:
            method = source.checksum.split(":")[0]
            checksum = f"{method}:{hashlib.new(method, path.read_bytes()).hexdigest()}"
        sources.append(replace(source, checksum=checksum))
    monkeypatch.setattr(loader, "sources", tuple(sources))
    count = sum(1 for _ in world.folder.rglob("[!.]*.jp*g")) + len(
        list(world.folder.rglob("[!.]*.JPEG"))
    )
    monkeypatch.setattr(loader, "images", count)
    monkeypatch.setattr(loader, "classes", len(world.names))
