"""Checks whether a request's values can make a run longer than the runs measured at warm-up.

On the event loop a long run blocks all clients of a worker, so only what is known to be safe runs there: the operators
below, whose work follows from the shapes of their inputs. If an operator takes a size as an input, the size must be a
constant or follow from shapes alone. A model with any other operator runs in threads, which is only slower.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from typing import Final

from gateway.backends.graph_nodes import Graph, GraphNode
from gateway.protocol.tensors import TensorSpec


def _named(domain: str, names: str) -> Iterator[str]:
    return (domain + name for name in names.split())


# Operators whose work follows from the shapes of their inputs.
SHAPE_BOUND: Final = frozenset(
    (
        *_named(
            "",
            """
        Abs Acos Acosh Add And ArgMax ArgMin Asin Asinh Atan Atanh Attention AveragePool BatchNormalization
        BitShift BitwiseAnd BitwiseNot BitwiseOr BitwiseXor Cast CastLike Ceil Celu Clip Concat Constant Conv
        ConvInteger ConvTranspose Cos Cosh CumSum DeformConv DepthToSpace DequantizeLinear Det Div Dropout
        DynamicQuantizeLinear Einsum Elu Equal Erf Exp EyeLike Flatten Floor GRU Gather GatherElements GatherND
        Gelu Gemm GlobalAveragePool GlobalLpPool GlobalMaxPool Greater GreaterOrEqual GridSample
        GroupNormalization HardSigmoid HardSwish Hardmax Identity InstanceNormalization IsInf IsNaN LRN LSTM
        LayerNormalization LeakyRelu Less LessOrEqual Log LogSoftmax LpNormalization LpPool MatMul MatMulInteger
        Max MaxPool MaxRoiPool Mean MeanVarianceNormalization Min Mish Mod Mul Neg Not Or PRelu Pow QLinearConv
        QLinearMatMul QuantizeLinear RMSNormalization RNN Reciprocal ReduceL1 ReduceL2 ReduceLogSum
        ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare Relu ReverseSequence
        RoiAlign RotaryEmbedding Round Scatter ScatterElements ScatterND Selu Shape Shrink Sigmoid Sign Sin Sinh
        Size Softmax Softplus Softsign SpaceToDepth Sqrt Squeeze Sub Sum Swish Tan Tanh ThresholdedRelu
        Transpose Trilu Unsqueeze Where Xor RegexFullMatch StringConcat StringNormalizer StringSplit
        TfIdfVectorizer
        """,
        ),
        *_named(
            "ai.onnx.ml.",
            """
        ArrayFeatureExtractor Binarizer CategoryMapper FeatureVectorizer Imputer LabelEncoder LinearClassifier
        LinearRegressor Normalizer OneHotEncoder SVMClassifier SVMRegressor Scaler TreeEnsemble
        TreeEnsembleClassifier TreeEnsembleRegressor ZipMap
        """,
        ),
        *_named(
            "com.microsoft.",
            """
        BiasGelu DynamicQuantizeMatMul FastGelu FusedConv FusedGemm FusedMatMul Gelu MatMulIntegerToFloat
        MatMulNBits NhwcMaxPool QGemm QLinearAdd QLinearAveragePool QLinearConcat QLinearGlobalAveragePool
        QLinearLeakyRelu QLinearMul QLinearReduceMean QLinearSigmoid QLinearSoftmax QuickGelu
        SkipLayerNormalization SkipSimplifiedLayerNormalization SimplifiedLayerNormalization Tokenizer
        """,
        ),
    )
)

# Operators whose work also follows from the values of the inputs at these positions.
SIZE_INPUTS: Final[Mapping[str, Sequence[int]]] = {
    "AffineGrid": (1,),
    "BlackmanWindow": (0,),
    "CenterCropPad": (1,),
    "Col2Im": (1, 2),
    "ConstantOfShape": (0,),
    "DFT": (1, 2),
    "Expand": (1,),
    "HammingWindow": (0,),
    "HannWindow": (0,),
    "MaxUnpool": (2,),
    "MelWeightMatrix": (0, 1, 2, 3, 4),
    "OneHot": (1,),
    "Pad": (1, 3),
    "Range": (0, 1, 2),
    "Reshape": (1,),
    "Resize": (1, 2, 3),
    "STFT": (1, 3),
    "Slice": (1, 2, 3, 4),
    "Split": (1,),
    "Tile": (1,),
    "TopK": (1,),
    "Upsample": (1,),
}
SHAPE_OPERATORS: Final = frozenset(("Shape", "Size"))


def variable_duration_reason(
    graph: Graph, inputs: Iterable[TensorSpec], overridable: Set[str], *, has_sample: bool
) -> str:
    """Why a run could take longer than at warm-up; "" if only more rows or longer texts can cause it.

    `overridable`: the weights that a request may replace. `has_sample`: warmup.json shows how large free dimensions
    are.
    """
    for spec in inputs:
        if not spec.shape:
            return f"input '{spec.name}' does not say its shape"
        if -1 in spec.shape[1:] and not has_sample:
            return f"input '{spec.name}' is of any size, {list(spec.shape)}: show a full-size one in warmup.json"
    return _variable_node_reason(graph, overridable)


def _variable_node_reason(graph: Graph, overridable: Set[str]) -> str:
    fixed = {"", *(graph.constants - overridable)}  # tensors whose values follow from weights and shapes alone
    for node in graph.nodes:
        if node.operator not in SHAPE_BOUND and node.operator not in SIZE_INPUTS:
            return f"the time that operator {node.operator} takes may depend on values"
        for position in SIZE_INPUTS.get(node.operator, ()):
            if position < len(node.inputs) and node.inputs[position] not in fixed:
                return f"operator {node.operator} takes a size that is computed from values: '{node.inputs[position]}'"
        if _is_fixed(node, fixed):
            fixed.update(node.outputs)
    return ""


def _is_fixed(node: GraphNode, fixed: set[str]) -> bool:
    return node.operator in SHAPE_OPERATORS or all(name in fixed for name in node.inputs)
