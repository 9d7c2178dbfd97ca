import json

from multimodal.training.state import MetricsLog


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
