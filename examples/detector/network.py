"""The detector's network, written once and built twice: as JAX functions to train, as an ONNX graph to ship.

`network` calls the methods of a builder. `JaxBuilder` computes with arrays in NHWC;
`OnnxBuilder` emits nodes in NCHW with the trained weights. What one can do, the other can.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

STRIDE = 8
REACH = 16.0
EPSILON = 1e-5


def inverted_residual(b, name, x, channels, wide, stride=1, act="relu6", squeeze=0):
    """Widen, filter each channel, narrow again (MobileNetV2); with squeeze-and-excitation on request."""
    y = b.conv(f"{name}/expand", x, wide, act=act)
    y = b.depthwise(f"{name}/depthwise", y, 3, stride, act=act)
    if squeeze:
        gate = b.mean(f"{name}/squeeze", y)
        gate = b.conv(f"{name}/squeeze/reduce", gate, squeeze, norm=None, act="relu")
        gate = b.conv(f"{name}/squeeze/restore", gate, wide, norm=None, act="hard_sigmoid")
        y = b.mul(f"{name}/squeeze/gate", y, gate)
    y = b.conv(f"{name}/project", y, channels, act=None)
    return b.add(f"{name}/add", x, y) if stride == 1 else y


def separable(b, name, x, channels, act):
    y = b.depthwise(f"{name}/depthwise", x, 3, 1, act=act, norm="kept")
    return b.conv(f"{name}/pointwise", y, channels, act=act, norm="kept")


def network(b, image, classes):
    """From pictures to (class logits [.., classes], box distances [.., 4]) on the grid of stride 8."""
    x = b.conv("stem", image, 16, kernel=3, stride=2, act="hard_swish")
    x = b.depthwise("stage1/depthwise", x, 3, 2, act="relu6")
    x = b.conv("stage1/project", x, 32, act=None)
    x = inverted_residual(b, "stage1/block0", x, 32, 64)
    x = inverted_residual(b, "stage2/block0", x, 40, 96, stride=2, act="hard_swish")
    x = inverted_residual(b, "stage2/block1", x, 40, 120, act="hard_swish")
    near = inverted_residual(b, "stage2/block2", x, 40, 120, act="hard_swish")
    x = inverted_residual(b, "stage3/block0", near, 64, 144, stride=2, act="hard_swish")
    x = inverted_residual(b, "stage3/block1", x, 64, 160, act="hard_swish", squeeze=16)

    # Pyramid pooling at stride 16 lets a cell see a whole part.
    x = b.conv("pool/reduce", x, 32, act="silu", norm="kept")
    wider = b.max_pool("pool/first", x, 5)
    widest = b.max_pool("pool/second", wider, 5)
    far = b.conv("pool/mix", b.concat("pool/concat", [x, wider, widest]), 56, act="silu", norm="kept")

    x = b.concat("neck/concat", [b.upsample("neck/upsample", far), near])
    x = b.conv("neck/mix", x, 48, act="silu", norm="kept")
    x = separable(b, "neck/blend", x, 48, "silu")
    scores = separable(b, "head/class", x, 48, "silu")
    scores = b.conv("head/class/logits", scores, classes, norm=None, act=None)
    boxes = separable(b, "head/box", x, 48, "silu")
    boxes = b.conv("head/box/distances", boxes, 4, norm=None, act=None)
    return scores, boxes


def centres(rows, cols):
    """Pixel centres of the grid's cells, f32 [rows * cols, 2] as x, y."""
    y, x = np.mgrid[0:rows, 0:cols]
    return ((np.stack([x, y], -1).reshape(-1, 2) + 0.5) * STRIDE).astype(np.float32)


def decode(distances, grid):
    """Boxes in pixels from raw distances [.., cells, 4]: left, top, right, bottom of each cell's centre."""
    reach = jnp.exp(jnp.clip(distances, -4.0, 3.0)) * REACH
    return jnp.concatenate([grid - reach[..., :2], grid + reach[..., 2:]], -1)


def shifted(x, weight):
    """Depthwise convolution [B, H, W, C] by [k, k, C], stride 1, same size.

    Rows lie behind one another, so that a tap is one contiguous slice: much faster than a grouped
    convolution where XLA runs on a CPU.
    """
    n, height, width, channels = x.shape
    k = weight.shape[0]
    wide, side = width + k - 1, k // 2
    x = jnp.pad(x, ((0, 0), (side, side), (side, side), (0, 0)))
    x = jax.lax.optimization_barrier(x.reshape(-1, channels))
    last = (k - 1) * (wide + 1)
    count = x.shape[0] - last
    y = sum(x[i * wide + j : i * wide + j + count] * weight[i, j] for i in range(k) for j in range(k))
    y = jnp.pad(y, ((0, last), (0, 0))).reshape(n, height + k - 1, wide, channels)
    return y[:, :height, :width]


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def filter_channels(x, weight, stride):
    """Depthwise convolution [B, H, W, C] by [k, k, C], padded by k // 2."""
    return shifted(x, weight)[:, ::stride, ::stride]


def filter_forward(x, weight, stride):
    return filter_channels(x, weight, stride), (x, weight)


def filter_backward(stride, saved, g):
    x, weight = saved
    k = weight.shape[0]
    rows, cols = g.shape[1] * stride, g.shape[2] * stride

    def add_sample(total, sample):
        # One sample at a time: its pixels stay in the cache for all taps.
        x, g = sample
        tap = lambda i, j: (x[i : i + rows : stride, j : j + cols : stride] * g).sum((0, 1))
        return total + jnp.stack([tap(i, j) for i in range(k) for j in range(k)]), None

    padded = jnp.pad(x, ((0, 0), (k // 2, k // 2), (k // 2, k // 2), (0, 0)))
    taps, _ = jax.lax.scan(add_sample, jnp.zeros((k * k, x.shape[3])), (padded, g))
    spread = (0, stride - 1, stride - 1)
    g = jax.lax.pad(g, 0.0, ((0, 0, 0), spread, spread, (0, 0, 0)))
    return shifted(g, weight[::-1, ::-1]), taps.reshape(weight.shape)


filter_channels.defvjp(filter_forward, filter_backward)


class JaxBuilder:
    """Computes the network. With `rng` it also makes the parameters that are not there yet."""

    ACTS = {
        None: lambda x: x,
        "relu": jax.nn.relu,
        "relu6": jax.nn.relu6,
        "silu": jax.nn.silu,
        "hard_swish": lambda x: x * jnp.clip(x / 6 + 0.5, 0, 1),
        "hard_sigmoid": lambda x: jnp.clip(x / 6 + 0.5, 0, 1),
    }

    def __init__(self, params, stats, train, rng=None):
        self.params, self.stats, self.train, self.rng = params, stats, train, rng
        self.batch_stats = {}

    def parameter(self, name, shape, fan_in=None, value=0.0):
        if self.rng is not None and name not in self.params:
            scale = 0.0 if fan_in is None else np.sqrt(2.0 / fan_in)
            self.params[name] = (value + scale * self.rng.standard_normal(shape)).astype(np.float32)
        return self.params[name]

    def finish(self, name, y, norm, act):
        channels = y.shape[-1]
        if norm is None:
            return self.ACTS[act](y + self.parameter(f"{name}.bias", (channels,)))
        gain = self.parameter(f"{name}.gain", (channels,), value=1.0)
        shift = self.parameter(f"{name}.shift", (channels,))
        if self.rng is not None:
            self.stats.setdefault(name, np.stack([np.zeros(channels), np.ones(channels)]).astype(np.float32))
        if self.train:
            mean = y.mean((0, 1, 2))
            var = jnp.maximum((y * y).mean((0, 1, 2)) - mean * mean, 0.0)
            self.batch_stats[name] = jnp.stack([mean, var])
        else:
            mean, var = self.stats[name]
        scale = gain * jax.lax.rsqrt(var + EPSILON)
        return self.ACTS[act](y * scale + (shift - mean * scale))

    def conv(self, name, x, channels, kernel=1, stride=1, norm="folded", act=None):
        weight = self.parameter(f"{name}.weight", (kernel, kernel, x.shape[-1], channels), kernel**2 * x.shape[-1])
        if kernel > 1:
            rows, cols = x.shape[1] // stride, x.shape[2] // stride
            x = jnp.pad(x, ((0, 0), (kernel // 2,) * 2, (kernel // 2,) * 2, (0, 0)))
            patch = lambda i, j: x[:, i : i + rows * stride : stride, j : j + cols * stride : stride]
            x = jnp.concatenate([patch(i, j) for i in range(kernel) for j in range(kernel)], -1)
        return self.finish(name, x @ weight.reshape(-1, channels), norm, act)

    def depthwise(self, name, x, kernel, stride, norm="folded", act=None):
        weight = self.parameter(f"{name}.weight", (kernel, kernel, x.shape[-1]), kernel**2)
        return self.finish(name, filter_channels(x, weight, stride), norm, act)

    def max_pool(self, name, x, kernel):
        side = kernel // 2
        # Two passes of one dimension each: the same maximum for less work.
        for axis in (1, 2):
            pad = [(side, side) if i == axis else (0, 0) for i in range(4)]
            wide = jnp.pad(x, pad, constant_values=-1e9)
            x = jax.tree.reduce(jnp.maximum, [jax.lax.slice_in_dim(wide, i, i + x.shape[axis], axis=axis) for i in range(kernel)])
        return x

    def mean(self, name, x):
        return x.mean((1, 2), keepdims=True)

    def upsample(self, name, x):
        n, h, w, c = x.shape
        return jnp.broadcast_to(x[:, :, None, :, None], (n, h, 2, w, 2, c)).reshape(n, 2 * h, 2 * w, c)

    def concat(self, name, xs):
        return jnp.concatenate(xs, -1)

    def add(self, name, x, y):
        return x + y

    def mul(self, name, x, y):
        return x * y


class OnnxBuilder:
    """Emits the same network as ONNX nodes. A value is (name, channels)."""

    def __init__(self, params, stats):
        self.params, self.stats = params, stats
        self.nodes, self.constants = [], {}

    def constant(self, name, value):
        self.constants[name] = np.array(value, order="C")
        return name

    def node(self, op, name, inputs, outputs=1, **attributes):
        names = [f"{name}_output_{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(op, inputs, names, name=name, **attributes))
        return names[0] if outputs == 1 else names

    def activate(self, name, x, act):
        if act == "relu":
            return self.node("Relu", f"{name}/Relu", [x])
        if act == "relu6":
            low = self.constant("relu6.min", np.float32(0))
            high = self.constant("relu6.max", np.float32(6))
            return self.node("Clip", f"{name}/Clip", [x, low, high])
        if act == "silu":
            return self.node("Mul", f"{name}/Mul", [x, self.node("Sigmoid", f"{name}/Sigmoid", [x])])
        if act == "hard_swish":
            return self.node("HardSwish", f"{name}/HardSwish", [x])
        if act == "hard_sigmoid":
            return self.node("HardSigmoid", f"{name}/HardSigmoid", [x], alpha=1 / 6, beta=0.5)
        return x

    def convolve(self, name, x, weight, stride, groups, norm, act):
        """`weight` is [out, in / groups, k, k]."""
        kernel, channels = weight.shape[2], weight.shape[0]
        inputs, vectors = [x], {}
        if norm is None:
            bias = self.params[f"{name}.bias"]
        else:
            mean, var = self.stats[name]
            gain, bias = self.params[f"{name}.gain"], self.params[f"{name}.shift"]
            vectors = {"weight": gain, "bias": bias, "running_mean": mean, "running_var": var}
        if norm == "folded":
            scale = gain / np.sqrt(var + EPSILON)
            weight, bias = weight * scale[:, None, None, None], bias - mean * scale
        inputs.append(self.constant(f"{name}.conv.weight", weight.astype(np.float32)))
        if norm != "kept":
            inputs.append(self.constant(f"{name}.conv.bias", bias.astype(np.float32)))
        y = self.node(
            "Conv", f"{name}/Conv", inputs, kernel_shape=[kernel] * 2, strides=[stride] * 2,
            pads=[kernel // 2] * 4, dilations=[1, 1], group=groups,
        )
        if norm == "kept":
            rest = [self.constant(f"{name}.norm.{key}", value) for key, value in vectors.items()]
            y = self.node("BatchNormalization", f"{name}/BatchNormalization", [y, *rest], epsilon=EPSILON, momentum=0.9)
        return self.activate(name, y, act), channels

    def conv(self, name, x, channels, kernel=1, stride=1, norm="folded", act=None):
        weight = self.params[f"{name}.weight"].transpose(3, 2, 0, 1)
        return self.convolve(name, x[0], weight, stride, 1, norm, act)

    def depthwise(self, name, x, kernel, stride, norm="folded", act=None):
        weight = self.params[f"{name}.weight"].transpose(2, 0, 1)[:, None]
        return self.convolve(name, x[0], weight, stride, x[1], norm, act)

    def max_pool(self, name, x, kernel):
        attributes = {"kernel_shape": [kernel] * 2, "strides": [1, 1], "pads": [kernel // 2] * 4, "ceil_mode": 0}
        return self.node("MaxPool", f"{name}/MaxPool", [x[0]], **attributes), x[1]

    def mean(self, name, x):
        return self.node("GlobalAveragePool", f"{name}/GlobalAveragePool", [x[0]]), x[1]

    def upsample(self, name, x):
        scales = self.constant(f"{name}.scales", np.array([1, 1, 2, 2], np.float32))
        attributes = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
        return self.node("Resize", f"{name}/Resize", [x[0], "", scales], **attributes), x[1]

    def concat(self, name, xs):
        return self.node("Concat", f"{name}/Concat", [x[0] for x in xs], axis=1), sum(x[1] for x in xs)

    def add(self, name, x, y):
        return self.node("Add", f"{name}/Add", [x[0], y[0]]), x[1]

    def mul(self, name, x, y):
        return self.node("Mul", f"{name}/Mul", [x[0], y[0]]), x[1]

    def rows(self, name, x, size):
        """[batch, channels, rows, cols] to [batch, cells, channels] for a batch that is not known yet."""
        shape = self.node("Shape", f"{name}/Shape", [x[0]])
        index = self.constant("batch.axis", np.int64(0))
        batch = self.node("Gather", f"{name}/Gather", [shape, index], axis=0)
        axes = self.constant("batch.unsqueeze", np.array([0], np.int64))
        batch = self.node("Unsqueeze", f"{name}/Unsqueeze", [batch, axes])
        rest = self.constant(f"{name}.shape", np.array([x[1], size], np.int64))
        shape = self.node("Concat", f"{name}/Concat", [batch, rest], axis=0)
        flat = self.node("Reshape", f"{name}/Reshape", [x[0], shape])
        return self.node("Transpose", f"{name}/Transpose", [flat], perm=[0, 2, 1])


def export(params, stats, classes, height, width):
    """The ONNX model: `image` f32 [batch, 3, height, width] -> `scores`, `boxes` (see README.md)."""
    b = OnnxBuilder(params, stats)
    logits, distances = network(b, ("image", 3), classes)
    rows, cols = height // STRIDE, width // STRIDE
    cells = rows * cols
    b.nodes.append(helper.make_node("Sigmoid", [b.rows("scores", logits, cells)], ["scores"], name="scores/Sigmoid"))

    x = b.rows("boxes", distances, cells)
    low, high = b.constant("boxes.min", np.float32(-4)), b.constant("boxes.max", np.float32(3))
    x = b.node("Clip", "boxes/Clip", [x, low, high])
    x = b.node("Exp", "boxes/Exp", [x])
    x = b.node("Mul", "boxes/Mul", [x, b.constant("boxes.reach", np.float32(REACH))])
    halves = b.constant("boxes.halves", np.array([2, 2], np.int64))
    near, far = b.node("Split", "boxes/Split", [x, halves], outputs=2, axis=2)
    grid = b.constant("boxes.grid", centres(rows, cols)[None])
    near = b.node("Sub", "boxes/Sub", [grid, near])
    far = b.node("Add", "boxes/Add", [grid, far])
    x = b.node("Concat", "boxes/corners/Concat", [near, far], axis=2)
    size = b.constant("boxes.size", np.array([width, height, width, height], np.float32))
    x = b.node("Div", "boxes/Div", [x, size])
    zero, one = b.constant("boxes.zero", np.float32(0)), b.constant("boxes.one", np.float32(1))
    b.nodes.append(helper.make_node("Clip", [x, zero, one], ["boxes"], name="boxes/limit/Clip"))

    tensor = lambda name, shape: helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
    graph = helper.make_graph(
        b.nodes, "parts_detector",
        [tensor("image", ["batch", 3, height, width])],
        [tensor("scores", ["batch", cells, classes]), tensor("boxes", ["batch", cells, 4])],
        [numpy_helper.from_array(value, name) for name, value in b.constants.items()],
    )
    model = helper.make_model(
        graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)],
        producer_name="sardonyx-examples", producer_version="1",
    )
    onnx.checker.check_model(model, full_check=True)
    return model
