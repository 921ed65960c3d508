"""The logs: after a kill they go on as if there had been none."""

import json
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from layerwise.training.tracking import Tracker


def lines(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def test_a_line_for_every_call(tmp_path):
    tracker = Tracker(tmp_path / "run", 0)
    tracker.log(4, epoch=0, loss=0.5, note="words")
    tracker.close()
    assert lines(tmp_path / "run") == [{"step": 4, "epoch": 0, "loss": 0.5, "note": "words"}]


def test_lines_are_there_before_it_is_closed(tmp_path):
    tracker = Tracker(tmp_path, 0)
    tracker.log(1, loss=1.0)
    assert lines(tmp_path) == [{"step": 1, "loss": 1.0}]
    tracker.close()


def test_what_was_written_after_the_resumed_step_is_dropped(tmp_path):
    tracker = Tracker(tmp_path, 0)
    for step in (2, 4, 6):
        tracker.log(step, loss=float(step))
    tracker.close()
    tracker = Tracker(tmp_path, 4)
    assert [line["step"] for line in lines(tmp_path)] == [2, 4]
    tracker.log(6, loss=-6.0)
    tracker.close()
    assert [(line["step"], line["loss"]) for line in lines(tmp_path)] == [
        (2, 2.0),
        (4, 4.0),
        (6, -6.0),
    ]


@pytest.mark.parametrize("torn", ['{"step": 3, "lo', '{"step"', "{", ""])
def test_a_line_cut_off_by_a_kill_is_dropped(tmp_path, torn):
    (tmp_path / "log.jsonl").write_text('{"step": 2, "loss": 1.0}\n' + torn)
    tracker = Tracker(tmp_path, 3)
    tracker.log(3, loss=0.5)
    tracker.close()
    assert [line["step"] for line in lines(tmp_path)] == [2, 3]


def test_a_kill_while_the_log_is_opened_costs_no_line(tmp_path, monkeypatch):
    text = '{"step": 2, "loss": 1.0}\n{"step": 4, "loss": 0.5}\n'
    (tmp_path / "log.jsonl").write_text(text)
    write = Path.write_text

    def killed(self: Path, data: str, **options: str) -> int:
        write(self, data[: len(data) // 3], **options)
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "write_text", killed)
    with pytest.raises(KeyboardInterrupt):
        Tracker(tmp_path, 4)
    monkeypatch.undo()
    assert (tmp_path / "log.jsonl").read_text() == text


def test_tensorboard_shows_the_resumed_run_once(tmp_path):
    tracker = Tracker(tmp_path, 0)
    for step, loss in ((2, 1.0), (4, 9.0)):
        tracker.log(step, loss=loss, note="not a number")
    tracker.close()
    tracker = Tracker(tmp_path, 2)
    tracker.log(4, loss=0.5)
    tracker.close()
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [(e.step, e.value) for e in events.Scalars("loss")] == [(2, 1.0), (4, 0.5)]
    assert events.Tags()["scalars"] == ["loss"]
