"""Run with the Python of label-studio-sdk: checks tasks against the labelling configuration as Label Studio would,
labels them, and exports the labels as JSON and JSON-MIN.

    python annotate.py TASKS CONFIG LABELS OUT    LABELS: JSON, the choices by "PREDICTION_ID ROW"; null skips the task
"""

import json
import sys
from pathlib import Path

from label_studio_sdk.converter import Converter
from label_studio_sdk.label_interface import LabelInterface

tasks, config, labels, out = map(Path, sys.argv[1:])
interface = LabelInterface(config.read_text())
interface.validate()
wanted = json.loads(labels.read_text())
exported = []
for number, task in enumerate(json.loads(tasks.read_text()), 1):
    assert interface.validate_task({"data": task["data"]}), task["data"]
    for prediction in task["predictions"]:
        assert interface.validate_prediction(prediction, return_errors=True) == []
    choices = wanted.get(f"{task['data']['prediction_id']} {task['data']['row']}", [])
    annotations = []
    for when, choice in enumerate([choices] if choices is None else choices):
        value = {"choices": [choice]}
        said = [{"from_name": "truth", "to_name": "input", "type": "choices", "value": value, "id": "r"}]
        annotation = {"id": 100 * number + when, "result": said if choice else [], "was_cancelled": choice is None}
        assert interface.validate_annotation(annotation), annotation
        created = f"2026-11-27T10:00:{when:02}.000000Z"
        annotations.append(annotation | {"created_at": created, "updated_at": created, "lead_time": 1.5})
    if choices is None:
        annotations = [{"id": number, "result": [], "was_cancelled": True, "created_at": "2026-11-27T10:00:00Z"}]
    exported.append({**task, "id": number, "annotations": annotations})
out.mkdir()
(out / "export.json").write_text(json.dumps(exported))
Converter(config.read_text(), str(out)).convert_to_json_min(str(out / "export.json"), str(out), is_dir=False)
