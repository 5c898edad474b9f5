"""Pictures by matplotlib, whose file is known to be writable before anything is computed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .errors import CommandError
from .extras import require

FORMATS = (".png", ".svg", ".pdf")


class Picture:
    """A matplotlib figure to draw on, and the file that it goes to.

    Raises CommandError for a file that cannot be written or is of another format, ModuleNotFoundError that
    names `user` where matplotlib is not installed.
    """

    def __init__(self, path: str, user: str, size: tuple[float, float]) -> None:
        # A figure of its own, not one of pyplot's: no window system is asked for, and nothing is left behind.
        self.figure: Any = require("matplotlib.figure", user).Figure(figsize=size, layout="constrained")
        require("matplotlib.backends.backend_agg", user).FigureCanvasAgg(self.figure)
        self.path = Path(path)
        if self.path.suffix.lower() not in FORMATS:
            raise CommandError(f"cannot draw {path!r}: the file's name must end in {', '.join(FORMATS)}")
        new = not self.path.exists()
        try:
            self.path.open("ab").close()
            if new:
                self.path.unlink()
        except OSError as error:
            raise CommandError(f"cannot write {path!r}: {error.strerror}") from None

    def save(self) -> None:
        """Write the file."""
        try:
            self.figure.savefig(self.path, dpi=150)
        except OSError as error:
            raise CommandError(f"cannot write '{self.path}': {error.strerror}") from None
