//! Boxes of a detector: decoding, overlap, and the suppression of all but the best of overlapping ones.

/// A box by its corners.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Corners {
    /// Left.
    pub x1: f32,
    /// Top.
    pub y1: f32,
    /// Right.
    pub x2: f32,
    /// Bottom.
    pub y2: f32,
}

impl Corners {
    /// From left, top, right, bottom.
    pub fn from_xyxy([x1, y1, x2, y2]: [f32; 4]) -> Corners {
        Corners { x1, y1, x2, y2 }
    }

    /// From the centre, width and height.
    pub fn from_cxcywh([cx, cy, w, h]: [f32; 4]) -> Corners {
        Corners { x1: cx - w / 2.0, y1: cy - h / 2.0, x2: cx + w / 2.0, y2: cy + h / 2.0 }
    }

    /// From the offsets that an SSD head gives against a prior box (centre, width, height), with the usual variances
    /// of 0.1 for the centre and 0.2 for the size.
    pub fn from_prior(offset: [f32; 4], prior: [f32; 4]) -> Corners {
        let [dx, dy, dw, dh] = offset;
        let [cx, cy, w, h] = prior;
        Corners::from_cxcywh([
            cx + dx * 0.1 * w,
            cy + dy * 0.1 * h,
            w * (dw * 0.2).exp(),
            h * (dh * 0.2).exp(),
        ])
    }

    /// All four are finite numbers.
    pub fn is_finite(&self) -> bool {
        [self.x1, self.y1, self.x2, self.y2].iter().all(|value| value.is_finite())
    }

    fn area(&self) -> f32 {
        (self.x2 - self.x1).max(0.0) * (self.y2 - self.y1).max(0.0)
    }

    /// Area of the intersection over area of the union; 0 when both are empty.
    pub fn overlap(&self, other: &Corners) -> f32 {
        let width = self.x2.min(other.x2) - self.x1.max(other.x1);
        let height = self.y2.min(other.y2) - self.y1.max(other.y1);
        let shared = width.max(0.0) * height.max(0.0);
        let union = self.area() + other.area() - shared;
        if union > 0.0 { shared / union } else { 0.0 }
    }
}

/// A box with its class and score.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Candidate {
    /// The box.
    pub corners: Corners,
    /// Its class.
    pub class: usize,
    /// Its score.
    pub score: f32,
}

/// Keeps, best score first, each box that overlaps no kept box of its class by more than `threshold`; stops at
/// `most` kept boxes.
pub fn suppress(mut candidates: Vec<Candidate>, threshold: f32, most: usize) -> Vec<Candidate> {
    candidates.sort_by(|a, b| b.score.total_cmp(&a.score));
    let mut kept: Vec<Candidate> = Vec::new();
    for candidate in candidates {
        if kept.len() == most {
            break;
        }
        let covers = |other: &Candidate| {
            other.class == candidate.class && other.corners.overlap(&candidate.corners) > threshold
        };
        if !kept.iter().any(covers) {
            kept.push(candidate);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decoding_and_overlap() {
        let a = Corners::from_cxcywh([2.0, 3.0, 2.0, 4.0]);
        assert_eq!(a, Corners::from_xyxy([1.0, 1.0, 3.0, 5.0]));
        assert_eq!(Corners::from_prior([0.0; 4], [2.0, 3.0, 2.0, 4.0]), a);
        let moved = Corners::from_prior([5.0, 0.0, 0.0, 0.0], [2.0, 3.0, 2.0, 4.0]);
        assert_eq!((moved.x1, moved.x2), (2.0, 4.0));
        assert!((a.overlap(&moved) - 4.0 / 12.0).abs() < 1e-6);
        assert_eq!(a.overlap(&Corners::from_xyxy([3.0, 5.0, 4.0, 6.0])), 0.0);
        let empty = Corners::from_xyxy([1.0, 1.0, 1.0, 1.0]);
        assert_eq!(empty.overlap(&empty), 0.0);
        assert!(!Corners::from_xyxy([f32::NAN, 0.0, 1.0, 1.0]).is_finite());
    }

    #[test]
    fn only_the_best_of_a_class_stays() {
        let at = |x: f32, class: usize, score: f32| Candidate {
            corners: Corners::from_xyxy([x, 0.0, x + 10.0, 10.0]),
            class,
            score,
        };
        let all = vec![at(1.0, 0, 0.8), at(0.0, 0, 0.9), at(0.5, 1, 0.7), at(20.0, 0, 0.6)];
        let kept = suppress(all.clone(), 0.45, 100);
        assert_eq!(kept.iter().map(|c| c.score).collect::<Vec<_>>(), [0.9, 0.7, 0.6]);
        assert_eq!(suppress(all.clone(), 1.0, 100).len(), 4);
        assert_eq!(suppress(all, 0.45, 2).len(), 2);
    }
}
