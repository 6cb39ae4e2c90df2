"""The learners that FLAML chooses between, and their export to ONNX."""

from typing import Any

import lightgbm
import numpy as np
from flaml import tune
from flaml.automl.model import (
    ExtraTreesEstimator,
    LGBMEstimator,
    RandomForestEstimator,
    SKLearnEstimator,
    XGBoostSklearnEstimator,
)
from onnxmltools.convert.lightgbm.operator_converters.LightGbm import convert_lightgbm
from onnxmltools.convert.xgboost.operator_converters.XGBoost import convert_xgboost
from skl2onnx import to_onnx, update_registered_converter
from skl2onnx.common.data_types import FloatTensorType
from skl2onnx.common.shape_calculator import (
    calculate_linear_classifier_output_shapes,
    calculate_linear_regressor_output_shapes,
)
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from training import OPSET
from xgboost import XGBClassifier, XGBRegressor


class Fits:
    """FLAML's learner without its measuring of time and memory, on which the number of trees would depend."""

    def fit(self, X_train: Any, y_train: Any, budget: Any = None, free_mem_ratio: float = 0, **more: Any) -> float:
        return float(self._fit(X_train, y_train))  # type: ignore[attr-defined]


class LightGbm(Fits, LGBMEstimator):  # type: ignore[misc]
    """Boosted trees."""

    def fit(self, X_train: Any, y_train: Any, budget: Any = None, free_mem_ratio: float = 0, **more: Any) -> float:
        seconds = super().fit(X_train, y_train)
        self._model._Booster = _with_thresholds_of_32_bits(self._model.booster_)
        return seconds

    def config2params(self, config: dict[str, Any]) -> dict[str, Any]:
        fixed = {"deterministic": True, "force_row_wise": True}  # else it chooses the way by measuring time
        return {**super().config2params(config), **fixed}


class XgBoost(Fits, XGBoostSklearnEstimator):  # type: ignore[misc]
    """Boosted trees."""


class Forest(Fits, RandomForestEstimator):  # type: ignore[misc]
    """A random forest."""


class ExtraTrees(Fits, ExtraTreesEstimator):  # type: ignore[misc]
    """A forest with random splits."""


class Linear(Fits, SKLearnEstimator):  # type: ignore[misc]
    """Logistic or ridge regression on scaled features."""

    @classmethod
    def search_space(cls, data_size: Any, task: Any, **more: Any) -> dict[str, Any]:
        return {"C": {"domain": tune.loguniform(lower=1e-4, upper=1e4), "init_value": 1.0}}

    def __init__(self, task: Any = "binary", n_jobs: Any = None, **config: Any) -> None:
        super().__init__(task, **config)
        self.estimator_class = self._classifier if self._task.is_classification() else self._regressor

    @staticmethod
    def _classifier(C: float) -> Any:
        return make_pipeline(StandardScaler(), LogisticRegression(C=C, max_iter=1_000))

    @staticmethod
    def _regressor(C: float) -> Any:
        return make_pipeline(StandardScaler(), Ridge(alpha=1 / C))


LEARNERS: dict[str, type[Any]] = {
    "lightgbm": LightGbm, "xgboost": XgBoost, "forest": Forest, "extra_trees": ExtraTrees, "linear": Linear,
}  # fmt: skip
NAMES = {learner: name for name, learner in LEARNERS.items()}


def _with_thresholds_of_32_bits(booster: lightgbm.Booster) -> lightgbm.Booster:
    """The same decisions for features of 32 bits, with thresholds rounded down to what ONNX can hold.

    The converter rounds to the nearest, so that a row whose feature is that number would take the other branch.
    """
    lines = []
    for line in booster.model_to_string().splitlines():
        name, _, values = line.partition("=")
        if name == "threshold":
            exact = np.array(values.split(), np.float64)
            rounded = exact.astype(np.float32)
            down = np.where(rounded > exact, np.nextafter(rounded, np.float32(-np.inf)), rounded)
            lines.append("threshold=" + " ".join(repr(float(value)) for value in down))
        elif name != "tree_sizes":  # in bytes, which have changed; the trees are found without
            lines.append(line)
    return lightgbm.Booster(model_str="\n".join(lines))


def onnx_of(model: Any, features: int) -> Any:
    """A trained model as ONNX: from [rows, features] to label and scores, or to a number."""
    options = {id(model): {"zipmap": False}} if hasattr(model, "predict_proba") else None
    inputs = [("features", FloatTensorType([None, features]))]
    return to_onnx(model, initial_types=inputs, target_opset=OPSET, options=options, name="model")


def _register() -> None:
    numbers, classes = calculate_linear_regressor_output_shapes, calculate_linear_classifier_output_shapes
    options = {"nocl": [True, False], "zipmap": [True, False, "columns"]}
    of_lightgbm = {"split": None}
    for model, shape, convert, more in (
        (lightgbm.LGBMClassifier, classes, convert_lightgbm, options),
        (lightgbm.LGBMRegressor, numbers, convert_lightgbm, of_lightgbm),
        (XGBClassifier, classes, convert_xgboost, options),
        (XGBRegressor, numbers, convert_xgboost, None),
    ):
        update_registered_converter(model, f"AutoMl{model.__name__}", shape, convert, options=more)


_register()
