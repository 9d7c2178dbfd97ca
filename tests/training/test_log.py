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
    assert rows == again.rows == [{"step": 10, "loss": 0.1}, {"step": 20, "loss": 0.05}, {"step": 30, "loss": 0.5}]
    assert MetricsLog(path).rows == []
    assert path.read_text() == ""


def test_curves_are_an_image_even_of_little_data(tmp_path):
    row = {"step": 1, "loss": 2.0, "contrastive": 2.0, "lr": 0.1, "grad_norm": 1.0, "samples_per_second": 5}
    figures = {"a/x": 0.5, "b/x": 0.1, "a/y": 3, "top-1": 1.0}
    for rows, size in (
        ([], (800, 300)),
        ([row], (800, 300)),
        ([row, {"step": 1, "validation": figures}], (800, 300)),  # measured once: no curve
        ([row, *({"step": n, "validation": figures} for n in (1, 2))], (1600, 600)),  # loss, rate, x, y; top-1 below
    ):
        draw_curves(rows, tmp_path / "curves.png")
        with Image.open(tmp_path / "curves.png") as image:
            assert image.size == size
