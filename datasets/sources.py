"""Where the files of a data set come from; the loaders state their own."""

from dataclasses import dataclass

LAYOUTS = "https://github.com/KaiyangZhou/CoOp/blob/main/DATASETS.md"


@dataclass(frozen=True)
class Source:
    """One file to fetch, and what becomes of it in the folder of the data set.

    `url` is plain http(s) or Google Drive's. `places` are pairs (path in the archive, path in the
    folder of the data set) of what is kept; without any, the file itself is kept as `name`.
    `inner` is the path of an archive in the archive, to which `places` then refer. `checksum` is
    "md5:..." or "sha256:..." where one is published.
    """

    url: str
    name: str
    places: tuple[tuple[str, str], ...] = ()
    checksum: str = ""
    inner: str = ""

    @property
    def targets(self) -> tuple[str, ...]:
        """What this source brings, relative to the folder of the data set."""
        return tuple(target for _, target in self.places) or (self.name,)


def drive(file_id: str, name: str, **kwargs) -> Source:
    """A file that the authors share on Google Drive."""
    return Source(f"https://drive.google.com/uc?id={file_id}", name, **kwargs)
