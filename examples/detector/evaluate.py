"""Picks detections out of the network's outputs and measures them: numpy only."""

import numpy as np


def iou(a, b):
    """Overlap of boxes a [n, 4] with boxes b [m, 4], both x1 y1 x2 y2: [n, m]."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    both = np.prod(np.maximum(high - low, 0.0), -1)
    area = lambda x: np.prod(np.maximum(x[:, 2:] - x[:, :2], 0.0), -1)
    return both / np.maximum(area(a)[:, None] + area(b)[None] - both, 1e-9)


def detect(scores, boxes, threshold, overlap=0.45, per_class=True):
    """Non-maximum suppression, best first: (classes, scores, boxes).

    scores [cells, classes], boxes [cells, 4]. Per class every cell may answer for several classes;
    otherwise only for its best, and a box also suppresses those of other classes.
    """
    if per_class:
        cells, classes = np.nonzero(scores >= threshold)
        values = scores[cells, classes]
    else:
        cells = np.nonzero(scores.max(1) >= threshold)[0]
        classes, values = scores[cells].argmax(1), scores[cells].max(1)
    order = np.argsort(-values, kind="stable")
    cells, classes, values = cells[order], classes[order], values[order]
    alive = np.ones(len(cells), bool)
    kept = []
    for i in range(len(cells)):
        if alive[i]:
            kept.append(i)
            covered = iou(boxes[cells[i : i + 1]], boxes[cells])[0] > overlap
            alive &= ~(covered & (classes == classes[i])) if per_class else ~covered
    return classes[kept], values[kept], boxes[cells[kept]]


def average_precision(detections, truths, label, threshold):
    """Area under the precision-recall curve of one class.

    detections: per picture (classes, scores, boxes); truths: per picture (classes, boxes).
    A truth is found once, by the best-scored detection that overlaps it by `threshold`.
    """
    hits, values, total = [], [], 0
    for (classes, scores, boxes), (true_classes, true_boxes) in zip(detections, truths):
        mine, wanted = classes == label, true_boxes[true_classes == label]
        total += len(wanted)
        free = np.ones(len(wanted), bool)
        for score, box in zip(scores[mine], boxes[mine]):
            match = np.where(free, iou(box[None], wanted)[0], 0.0) if len(wanted) else np.zeros(1)
            best = int(match.argmax())
            hits.append(bool(match[best] >= threshold))
            if hits[-1]:
                free[best] = False
            values.append(score)
    hits = np.array(hits, bool)[np.argsort(-np.array(values), kind="stable")]
    found = np.cumsum(hits)
    precision = found / np.arange(1, len(hits) + 1)
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    return float((precision * hits).sum() / max(total, 1))
