#!/usr/bin/env python3
"""Makes the example detector: draws its pictures, trains it, exports and measures it.

    python3 -m venv venv
    venv/bin/pip install jax==0.10.2 numpy onnx onnxruntime pillow
    venv/bin/python train.py

About 25 minutes on one core of a 2020s server CPU and 2.5 GiB of memory; no GPU is used.
Writes parts.onnx, labels.txt, expected.json and pictures/ beside this file. Everything is seeded:
the same versions on the same kind of CPU give the same files. `--steps 20 --scenes 50 --out DIR`
is a quick trial; `--pictures-only` measures an existing parts.onnx and writes the rest again.
"""

import argparse
import json
import os
import pathlib
import sys
import time

# One thread: the sums are always in the same order, and the machine stays usable.
os.environ.setdefault("PJRT_NPROC", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("JAX_PLATFORMS", "cpu")
sys.dont_write_bytecode = True

import jax
import jax.numpy as jnp
import numpy as np
import onnxruntime
from PIL import Image

from evaluate import average_precision, detect, iou
from network import STRIDE, JaxBuilder, centres, decode, export, network
from scenes import HEIGHT, LABELS, WIDTH, make

CROP = 192
BATCH = 16
WARMUP = 150
PEAK_RATE = 5e-3
DECAY = 1e-2
AVERAGE = 0.998
HELD_OUT, SHOWN = 1_000_000, 2_000_000
SCORE, OVERLAP = 0.5, 0.45


def crop(rng, picture, boxes, classes):
    """A random square, turned, mirrored and recoloured: (f32 [CROP, CROP, 3], boxes, classes, ignored boxes)."""
    x, y = rng.integers(0, WIDTH - CROP + 1), rng.integers(0, HEIGHT - CROP + 1)
    picture = picture[y : y + CROP, x : x + CROP]
    cut = np.clip(boxes - [x, y, x, y], 0, CROP)
    area = lambda b: (b[:, 2] - b[:, 0]) * (b[:, 3] - b[:, 1])
    rest = area(cut) / area(boxes)
    if rng.random() < 0.5:
        picture, cut = picture[:, ::-1], np.stack([CROP - cut[:, 2], cut[:, 1], CROP - cut[:, 0], cut[:, 3]], 1)
    if rng.random() < 0.5:
        picture, cut = picture[::-1], np.stack([cut[:, 0], CROP - cut[:, 3], cut[:, 2], CROP - cut[:, 1]], 1)
    if rng.random() < 0.5:
        picture, cut = picture.transpose(1, 0, 2), cut[:, [1, 0, 3, 2]]
    picture = picture.astype(np.float32) / 255
    picture = picture ** rng.uniform(0.8, 1.25) * (rng.uniform(0.75, 1.25) * rng.uniform(0.93, 1.07, 3))
    picture = np.clip(picture + rng.uniform(-0.06, 0.06), 0, 1).astype(np.float32)
    keep = rest >= 0.45
    return picture, cut[keep], classes[keep], cut[~keep & (rest > 0.02)]


def targets(boxes, classes, ignored, grid):
    """What each cell should say: (class or -1 for nothing or -2 for do not care, box)."""
    wanted, box = np.full(len(grid), -1, np.int32), np.zeros((len(grid), 4), np.float32)
    inside = lambda b: (grid > b[:2]).all(1) & (grid < b[2:]).all(1)
    for b in ignored:
        wanted[inside(b)] = -2
    nearest = np.full(len(grid), np.inf)
    for b, label in zip(boxes, classes):
        away = np.abs(grid - (b[:2] + b[2:]) / 2).max(1)
        mine = inside(b) & (away < 1.5 * STRIDE) & (away < nearest)
        wanted[mine], box[mine], nearest[mine] = label, b, away[mine]
    return wanted, box


def batch(rng, scenes, grid):
    picked = [crop(rng, *scenes[i]) for i in rng.integers(0, len(scenes), BATCH)]
    goals = [targets(*rest, grid) for _, *rest in picked]
    return np.stack([p[0] for p in picked]), np.stack([g[0] for g in goals]), np.stack([g[1] for g in goals])


def overlaps(a, b):
    """IoU and generalised IoU of boxes pair by pair."""
    area = lambda low, high: jnp.prod(jnp.maximum(high - low, 0.0), -1)
    both = area(jnp.maximum(a[..., :2], b[..., :2]), jnp.minimum(a[..., 2:], b[..., 2:]))
    hull = area(jnp.minimum(a[..., :2], b[..., :2]), jnp.maximum(a[..., 2:], b[..., 2:]))
    union = area(a[..., :2], a[..., 2:]) + area(b[..., :2], b[..., 2:]) - both
    plain = both / jnp.maximum(union, 1e-6)
    return plain, plain - (hull - union) / jnp.maximum(hull, 1e-6)


def loss_of(params, pictures, wanted, boxes, grid):
    """Varifocal loss on the classes, generalised IoU on the boxes; also the batch's statistics."""
    b = JaxBuilder(params, {}, train=True)
    logits, distances = network(b, pictures, len(LABELS))
    logits = logits.reshape(wanted.shape + (-1,))
    found = decode(distances.reshape(wanted.shape + (4,)), grid)
    positive = (wanted >= 0).astype(jnp.float32)
    plain, general = overlaps(found, boxes)
    quality = jax.lax.stop_gradient(jnp.sqrt(jnp.clip(plain, 0, 1))) * positive
    goal = jax.nn.one_hot(wanted, len(LABELS)) * quality[..., None]
    entropy = jax.nn.softplus(logits) - goal * logits
    # Cells of parts tell the classes apart at full weight; elsewhere only what looks like a part counts.
    focus = jnp.where(positive[..., None] > 0, 1.0, jax.nn.sigmoid(logits) ** 2)
    count = jnp.maximum(positive.sum(), 1.0)
    class_loss = (entropy * focus * (wanted > -2)[..., None]).sum() / count
    weight = (quality + 0.1) * positive
    box_loss = ((1 - general) * weight).sum() / jnp.maximum(weight.sum(), 1.0)
    return class_loss + 1.5 * box_loss, (class_loss, (plain * positive).sum() / count, b.batch_stats)


@jax.jit
def step(params, moments, averages, number, rate, pictures, wanted, boxes, grid):
    """One step of AdamW; `averages` trails the parameters and is what is shipped."""
    (_, (class_loss, quality, _)), grads = jax.value_and_grad(loss_of, has_aux=True)(params, pictures, wanted, boxes, grid)
    norm = jnp.sqrt(sum((g * g).sum() for g in grads.values()))
    fade = jnp.minimum(AVERAGE, (1 + number) / (10 + number))
    for name, grad in grads.items():
        grad = grad * jnp.minimum(1.0, 5.0 / (norm + 1e-6))
        first, second = moments[name]
        first, second = 0.9 * first + 0.1 * grad, 0.99 * second + 0.01 * grad * grad
        change = first / (1 - 0.9**number) / (jnp.sqrt(second / (1 - 0.99**number)) + 1e-8)
        decay = DECAY * params[name] if name.endswith(".weight") else 0.0
        params = params | {name: params[name] - rate * (change + decay)}
        moments = moments | {name: (first, second)}
        averages = averages | {name: fade * averages[name] + (1 - fade) * params[name]}
    return params, moments, averages, class_loss, quality


def train(scenes, steps):
    """(parameters, normalisation statistics) after `steps` steps."""
    rng = np.random.default_rng(1)
    params, stats = {}, {}
    first = JaxBuilder(params, stats, train=True, rng=np.random.default_rng(0))
    network(first, np.zeros((1, 32, 32, 3), np.float32), len(LABELS))
    # At first nearly no cell holds a part; the bias says so, else the first steps are wasted on that.
    params["head/class/logits.bias"] -= 3.0
    for name in ("head/class/logits.weight", "head/box/distances.weight"):
        params[name] *= 0.1
    print(f"{sum(p.size for p in params.values())} parameters", flush=True)

    grid = centres(CROP // STRIDE, CROP // STRIDE)
    moments = {name: (np.zeros_like(p), np.zeros_like(p)) for name, p in params.items()}
    averages, started, sums = dict(params), time.time(), np.zeros(2)
    for number in range(1, steps + 1):
        rate = PEAK_RATE * min(number / WARMUP, 0.5 + 0.5 * np.cos(np.pi * number / (steps + 1)))
        inputs = batch(rng, scenes, grid)
        params, moments, averages, *report = step(params, moments, averages, float(number), rate, *inputs, grid)
        sums += [float(x) for x in report]
        if number % 50 == 0:
            print(f"step {number:5} class loss {sums[0] / 50:.3f} overlap {sums[1] / 50:.3f} {time.time() - started:.0f} s", flush=True)
            sums[:] = 0

    # The statistics belong to the averaged parameters, over many batches.
    measure = jax.jit(lambda *inputs: loss_of(*inputs)[1][2])
    collected = [measure(averages, *batch(rng, scenes, grid), grid) for _ in range(60)]
    stats = {name: np.mean([c[name] for c in collected], 0) for name in stats}
    return {name: np.asarray(p) for name, p in averages.items()}, stats


def tensor(picture):
    return picture.transpose(2, 0, 1)[None].astype(np.float32) / 255


def run(session, picture):
    scores, boxes = session.run(["scores", "boxes"], {"image": tensor(picture)})
    return scores[0], boxes[0] * np.array([WIDTH, HEIGHT, WIDTH, HEIGHT], np.float32)


def measure(session, count):
    """Prints and returns average precision over `count` pictures that were never trained on."""
    detections, truths = [], []
    for i in range(count):
        picture, boxes, classes = make(HELD_OUT + i)
        detections.append(detect(*run(session, picture), 0.02, OVERLAP))
        truths.append((classes, boxes))
    table = np.array([[average_precision(detections, truths, c, t) for t in np.arange(0.5, 0.96, 0.05)] for c in range(len(LABELS))])
    for label, row in zip(LABELS, table):
        print(f"  {label:8} AP@0.5 {row[0]:.3f}  AP@0.5:0.95 {row.mean():.3f}")
    at_threshold = [(c[s >= SCORE], s[s >= SCORE], b[s >= SCORE]) for c, s, b in detections]
    right = sum(len(match(d, t)) for d, t in zip(at_threshold, truths))
    precision = right / max(1, sum(len(d[0]) for d in at_threshold))
    recall = right / sum(len(t[0]) for t in truths)
    print(f"  mAP@0.5 {table[:, 0].mean():.4f}  mAP@0.5:0.95 {table.mean():.4f}  ({count} pictures)")
    print(f"  at score {SCORE}: precision {precision:.3f} recall {recall:.3f}")


def match(detections, truth):
    """Pairs (detection, truth) of the same class that overlap by half, each used once, best score first."""
    (classes, _, boxes), (true_classes, true_boxes) = detections, truth
    pairs, free = [], set(range(len(true_classes)))
    for i, (label, box) in enumerate(zip(classes, boxes)):
        good = [(iou(box[None], true_boxes[j : j + 1])[0, 0], j) for j in free if true_classes[j] == label]
        if good and max(good)[0] >= 0.5:
            pairs.append((i, max(good)[1]))
            free.discard(pairs[-1][1])
    return pairs


def check_export(session, params, stats):
    """Largest differences between the exported model and the network that was trained, batch of two."""
    pictures = np.concatenate([tensor(make(HELD_OUT + i)[0]) for i in range(2)])
    builder = JaxBuilder(params, stats, train=False)
    logits, distances = network(builder, pictures.transpose(0, 2, 3, 1), len(LABELS))
    grid = centres(HEIGHT // STRIDE, WIDTH // STRIDE)
    boxes = decode(distances.reshape(2, -1, 4), grid) / np.array([WIDTH, HEIGHT, WIDTH, HEIGHT])
    scores = jax.nn.sigmoid(logits).reshape(2, -1, len(LABELS))
    got = session.run(["scores", "boxes"], {"image": pictures})
    worst = [float(np.abs(g - np.asarray(w)).max()) for g, w in zip(got, (scores, jnp.clip(boxes, 0, 1)))]
    print(f"export against training: scores differ by {worst[0]:.1e}, boxes by {worst[1]:.1e}")
    if max(worst) > 1e-3:
        raise SystemExit("the exported model does not compute what was trained")


def showcase(session, out, seeds):
    """Saves sample pictures and what the model says about them."""
    folder = out / "pictures"
    folder.mkdir(exist_ok=True)
    entries = []
    for number, seed in enumerate(seeds, 1):
        picture, true_boxes, true_classes = make(SHOWN + seed, calm=True)
        path = folder / f"belt_{number}.{'png' if number <= 2 else 'jpg'}"
        options = {"optimize": True} if number <= 2 else {"quality": 92, "subsampling": 0}
        Image.fromarray(picture).save(path, **options)
        scores, boxes = run(session, np.asarray(Image.open(path).convert("RGB")))
        found = detect(scores, boxes, SCORE, OVERLAP)
        pairs = match(found, (true_classes, true_boxes))
        print(f"  {path.name}: {len(true_classes)} parts, {len(found[0])} detections, {len(pairs)} right, {path.stat().st_size} bytes")
        rounded = lambda values, digits=2: [round(float(v), digits) for v in values]
        top = np.argsort(-scores.max(1), kind="stable")[:5]
        entries.append({
            "file": f"pictures/{path.name}",
            "truth": [{"label": LABELS[c], "box": rounded(b)} for c, b in zip(true_classes, true_boxes)],
            "detections": [{"label": LABELS[c], "score": round(float(s), 4), "box": rounded(b)} for c, s, b in zip(*found)],
            "top_cells": [
                {"cell": int(i), "scores": rounded(scores[i], 5), "box": rounded(boxes[i] / [WIDTH, HEIGHT, WIDTH, HEIGHT], 5)}
                for i in top
            ],
        })
    document = {
        "model": "parts.onnx", "labels": LABELS, "score": SCORE, "nms": OVERLAP,
        "about": "Boxes are x1 y1 x2 y2: in pixels under truth and detections, as fractions of the picture under "
        "top_cells, which are the five rows of the raw outputs with the highest score.",
        "pictures": entries,
    }
    (out / "expected.json").write_text(json.dumps(document, indent=1) + "\n")


def main():
    here = pathlib.Path(__file__).resolve().parent
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, default=here)
    parser.add_argument("--scenes", type=int, default=1500, help="pictures to train on")
    parser.add_argument("--steps", type=int, default=2800, help=f"batches of {BATCH} crops")
    parser.add_argument("--held-out", type=int, default=200, help="pictures to measure on")
    parser.add_argument("--show", type=int, nargs="+", default=[63, 289, 187, 393], help="seeds of the sample pictures")
    parser.add_argument("--pictures-only", action="store_true")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / "parts.onnx"

    if not options.pictures_only:
        started = time.time()
        scenes = [make(seed) for seed in range(options.scenes)]
        print(f"{len(scenes)} pictures in {time.time() - started:.0f} s", flush=True)
        params, stats = train(scenes, options.steps)
        path.write_bytes(export(params, stats, len(LABELS), HEIGHT, WIDTH).SerializeToString())
        (options.out / "labels.txt").write_text("".join(f"{label}\n" for label in LABELS))

    threads = onnxruntime.SessionOptions()
    threads.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, threads, providers=["CPUExecutionProvider"])
    if not options.pictures_only:
        check_export(session, params, stats)
    measure(session, options.held_out)
    showcase(session, options.out, options.show)


if __name__ == "__main__":
    main()
