import json

from PIL import Image

from multimodal.training.log import MetricsLog, draw_curves


def test_a_resumed_log_forgets_what_will_be_repeated(tmp_path):
    path = tmp_path / "metrics.jsonl"
    log = MetricsLog(path)
    for step in (10, 20, 30):
        log.add(step=step, loss=1 / step)
    with path.open("a") as file:
        file.write('{"step": 40, "lo')  # killed while writing
    again = MetricsLog(path, from_step=20)
    again.add(step=30, loss=0.5)
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert (
        rows
        == again.rows
        == [{"step": 10, "loss": 0.1}, {"step": 20, "loss": 0.05}, {"step": 30, "loss": 0.5}]
    )
    assert MetricsLog(path).rows == []
    assert path.read_text() == ""


def test_curves_are_a_picture_even_of_little(tmp_path):
    row = {"step": 1, "loss": 2.0, "contrastive": 2.0, "lr": 0.1, "grad_norm": 1.0, "samples_per_second": 5}
    for rows, panels in ([], 2), ([row], 2), ([row, {"step": 1, "validation": {"a/b": 0.5}}], 3):
        draw_curves(rows, tmp_path / "curves.png")
        with Image.open(tmp_path / "curves.png") as picture:
            assert picture.size == (500 * panels, 400)
