"""Describe where the files of a data set come from; every loader states its own sources."""

from dataclasses import dataclass

LAYOUTS = "https://github.com/KaiyangZhou/CoOp/blob/main/DATASETS.md"


@dataclass(frozen=True)
class Source:
    """Describe one file to download, and where its content goes in the folder of the data set.

    `url` is plain http(s), or Google Drive's with a `file_name`. `places` are pairs (path in
    the archive, path in the folder of the data set) of what is kept; without any, the file itself
    is kept as `name`. `inner` is the path of an archive in the archive, to which `places` then
    refer. `checksum` is "md5:..." or "sha256:..." if one is published.
    """

    url: str
    places: tuple[tuple[str, str], ...] = ()
    checksum: str = ""
    inner: str = ""
    file_name: str = ""

    @property
    def name(self) -> str:
        """Return the name of the file, by default that in the address."""
        return self.file_name or self.url.rpartition("/")[2]

    @property
    def targets(self) -> tuple[str, ...]:
        """Return the paths that this source creates in the folder of the data set."""
        return tuple(target for _, target in self.places) or (self.name,)


def drive(file_id: str, name: str, **kwargs) -> Source:
    """Return the source of a file that the authors share on Google Drive."""
    return Source(f"https://drive.google.com/uc?id={file_id}", file_name=name, **kwargs)
