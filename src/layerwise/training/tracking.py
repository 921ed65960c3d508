"""What a run says while it trains: JSON lines and TensorBoard, both continued after a resume."""

import json
from pathlib import Path
from typing import Any


class Tracker:
    """Writes `log.jsonl` and TensorBoard events of one run into its folder."""

    def __init__(self, folder: Path, step: int) -> None:
        """Open the logs at a step; what a killed process wrote after that step is dropped."""
        from torch.utils.tensorboard import SummaryWriter

        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / "log.jsonl"
        kept = [line for line in _lines(self.path) if json.loads(line)["step"] <= step]
        part = self.path.with_name("log.jsonl.part")  # a kill here must not cost earlier lines
        part.write_text("".join(line + "\n" for line in kept), encoding="utf-8")
        part.replace(self.path)
        self._file = self.path.open("a", encoding="utf-8", buffering=1)
        self._board = SummaryWriter(folder / "tensorboard", purge_step=step + 1)

    def log(self, step: int, **values: Any) -> None:  # noqa: ANN401 - numbers and words
        """One line; numbers also go to TensorBoard."""
        self._file.write(json.dumps({"step": step, **values}) + "\n")
        for name, value in values.items():
            if isinstance(value, (int, float)):
                self._board.add_scalar(name, value, step)

    def close(self) -> None:
        """Flush and close both."""
        self._file.close()
        self._board.close()


def _lines(path: Path) -> list[str]:
    """The whole lines of a JSON-lines file; a last line cut off by a kill is left out."""
    if not path.exists():
        return []
    good = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            json.loads(line)
        except json.JSONDecodeError:
            break
        good.append(line)
    return good
