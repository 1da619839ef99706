"""The line from data to specs: supernets, candidates, selection, report; every stage goes on where it was."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from robnet_zoo.data import Images, resized
from robnet_zoo.network import Network
from robnet_zoo.search.config import SearchConfig
from robnet_zoo.search.space import Kind
from robnet_zoo.search.supernet import train_supernet
from robnet_zoo.training import Keeping


@dataclass(frozen=True, eq=False)
class Stage:
    """One branch of a search in its folder."""

    config: SearchConfig
    kind: Kind
    images: Images
    folder: Path

    @property
    def sized(self) -> Images:
        """The images at the size of the branch's network."""
        return resized(self.images, self.config.branch(self.kind).network.input_size[1])

    def supernet(self, *, keeping: Keeping | None = None, progress: bool = True) -> Network:
        """The trained supernet; trains what is left of it."""
        images = self.sized.split()[0]
        if self.config.images is not None:
            images = images[: self.config.images]
        return train_supernet(
            self.config.space(self.kind),
            images,
            self.config.branch(self.kind).supernet,
            self.folder / self.kind / "supernet",
            keeping=keeping,
            progress=progress,
        )
