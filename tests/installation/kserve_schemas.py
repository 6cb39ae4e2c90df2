"""Makes kserve_schemas.json: python -m tests.installation.kserve_schemas FOLDER

FOLDER: the custom resource definitions of github.com/kserve/kserve (Apache 2.0); the file was made from those of
commit aaac4e294. Only what the manifests use is kept, without descriptions: the whole is two megabytes.

What the definitions do not name is refused, as the API server does with `--validate=strict`; so is what has been left
out here.
"""

import json
import sys
from pathlib import Path
from typing import Any

import yaml

FILE = Path(__file__).with_name("kserve_schemas.json")
LEFT_OUT = {
    "ServingRuntime": {"workerSpec", "affinity"},
    "ClusterServingRuntime": {"workerSpec", "affinity"},
    "InferenceService": {
        *(
            "canary",
            "explainer",
            "transformer",
            "affinity",
            "autoScaling",
            "containers",
            "huggingface",
            "initContainers",
        ),
        *("lightgbm", "onnx", "paddle", "pmml", "pytorch", "sklearn", "tensorflow", "triton", "workerSpec", "xgboost"),
    },
}


def schemas(folder: Path) -> dict[str, Any]:
    """The JSON Schema of each kind, by kind."""
    found = {}
    for kind, left_out in LEFT_OUT.items():
        definition = yaml.safe_load((folder / f"serving.kserve.io_{kind.lower()}s.yaml").read_text())
        (version,) = definition["spec"]["versions"]
        schema = version["schema"]["openAPIV3Schema"]
        spec = schema["properties"]["spec"]["properties"]
        for parts in (spec, spec["predictor"]["properties"] if "predictor" in spec else {}):
            for name in left_out & parts.keys():
                del parts[name]
        del schema["properties"]["status"]
        schema["properties"]["metadata"] = {"type": "object"}
        found[kind] = {"apiVersion": f"{definition['spec']['group']}/{version['name']}", "schema": _strict(schema)}
    return found


def _strict(schema: Any) -> Any:
    """The schema as JSON Schema, which refuses what it does not name."""
    if isinstance(schema, list):
        return [_strict(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    made = {
        key: _strict(value) for key, value in schema.items() if not (key == "description" and isinstance(value, str))
    }
    if made.get("x-kubernetes-int-or-string"):
        made["type"] = ["integer", "string"]
    if isinstance(made.get("properties"), dict) and not made.get("x-kubernetes-preserve-unknown-fields"):
        made["additionalProperties"] = False
    return {key: value for key, value in made.items() if not key.startswith("x-kubernetes-")}


if __name__ == "__main__":
    FILE.write_text(json.dumps(schemas(Path(sys.argv[1])), separators=(",", ":"), sort_keys=True) + "\n")
