//! Post-processing of detectors whose outputs are scores `[1, N, C]` (or `[N, C]`, `[N]`) and boxes `[1, N, 4]`
//! (or `[N, 4]`), with an optional output of class numbers `[N]` beside scores `[N]`.

use sardonyx_ops::{DType, Tensor};
use serde_json::{Value, json};

use super::boxes::{Candidate, Corners, suppress};
use super::labels::Labels;
use super::{Output, floats, misfit};
use crate::elements;
use crate::failure::{Failure, Fault};
use crate::input::picture::Geometry;
use crate::output::format;

/// How a box is written.
#[derive(Clone, Debug)]
pub enum Coding {
    /// Left, top, right, bottom.
    Xyxy,
    /// Centre, width, height.
    Cxcywh,
    /// Offsets against prior boxes `[N, 4]` of centre, width, height.
    Prior(Tensor),
}

/// In what coordinates are measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Units {
    /// Fractions of what the model sees.
    Fraction,
    /// Pixels of what the model sees.
    Pixel,
}

/// Which class stands for "nothing here".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Background {
    /// Class 0 when each row of scores sums to 1, else none.
    Auto,
    /// No class.
    None,
    /// This class.
    Class(usize),
}

/// What is asked of a detector.
#[derive(Clone, Debug)]
pub struct Options {
    /// Lowest score.
    pub score: f32,
    /// Largest overlap of two boxes of one class.
    pub nms: f32,
    /// Most boxes.
    pub top: usize,
    /// How boxes are written.
    pub coding: Coding,
    /// Units, when not to be told from the numbers.
    pub units: Option<Units>,
    /// The class that stands for nothing.
    pub background: Background,
}

/// What was found, best first, in the pixels of the picture.
#[derive(Clone, Debug)]
pub struct Detections {
    /// Boxes in the picture.
    pub found: Vec<Candidate>,
    /// The class that was left out.
    pub background: Option<usize>,
    /// The units of the boxes.
    pub units: Units,
    /// Names of the outputs: boxes, scores, classes.
    pub outputs: Vec<String>,
}

/// The outputs that a detector's answer is made of.
struct Heads {
    boxes: Vec<[f32; 4]>,
    scores: Vec<f32>,
    /// Columns of the scores.
    classes: usize,
    /// Numbers of the classes, when an output has them.
    numbers: Option<Vec<usize>>,
    names: Vec<String>,
}

/// Finds boxes. `geometry` leads from what the model saw back to the picture.
///
/// # Errors
/// When the outputs are none of a detector, or the prior boxes do not fit them.
pub fn detect(outputs: &[Output], geometry: &Geometry, options: &Options) -> Result<Detections, Failure> {
    let heads = Heads::find(outputs)?;
    let count = heads.boxes.len();
    let priors = match &options.coding {
        Coding::Prior(tensor) => Some(prior_boxes(tensor, count)?),
        Coding::Xyxy | Coding::Cxcywh => None,
    };
    let background = match options.background {
        Background::None => None,
        Background::Class(class) if class < heads.classes => Some(class),
        Background::Class(class) => {
            return Err(misfit(
                format!("--background {class}: there are {} classes", heads.classes),
                outputs,
            ));
        }
        Background::Auto => heads.sums_to_one().then_some(0),
    };
    let mut candidates = Vec::new();
    for (i, scores) in heads.scores.chunks_exact(heads.classes).enumerate() {
        let corners = match (&options.coding, &priors) {
            (_, Some(priors)) => Corners::from_prior(heads.boxes[i], priors[i]),
            (Coding::Cxcywh, _) => Corners::from_cxcywh(heads.boxes[i]),
            _ => Corners::from_xyxy(heads.boxes[i]),
        };
        for (column, &score) in scores.iter().enumerate() {
            if Some(column) != background && score >= options.score && corners.is_finite() {
                let class = heads.numbers.as_ref().map_or(column, |numbers| numbers[i]);
                candidates.push(Candidate { corners, class, score });
            }
        }
    }
    let units = options.units.unwrap_or_else(|| guess_units(&candidates));
    let kept = suppress(candidates, options.nms, options.top);
    let found = kept.into_iter().map(|candidate| to_picture(candidate, units, geometry)).collect();
    Ok(Detections { found, background, units, outputs: heads.names })
}

/// Boxes in fractions stay near 0 to 1 even where they reach over the edge; boxes in pixels of any real picture do
/// not.
fn guess_units(candidates: &[Candidate]) -> Units {
    const LARGEST_FRACTION: f32 = 2.0;
    let largest = candidates.iter().map(|c| c.corners.x2.max(c.corners.y2)).fold(0.0, f32::max);
    if largest <= LARGEST_FRACTION { Units::Fraction } else { Units::Pixel }
}

fn to_picture(candidate: Candidate, units: Units, geometry: &Geometry) -> Candidate {
    let unit = match units {
        Units::Fraction => geometry.model.map(f64::from),
        Units::Pixel => [1.0; 2],
    };
    let point = |x: f32, y: f32| geometry.to_picture([f64::from(x) * unit[0], f64::from(y) * unit[1]]);
    let Corners { x1, y1, x2, y2 } = candidate.corners;
    let ([x1, y1], [x2, y2]) = (point(x1, y1), point(x2, y2));
    let corners = Corners::from_xyxy([x1, y1, x2, y2].map(|value| value as f32));
    Candidate { corners, ..candidate }
}

fn prior_boxes(tensor: &Tensor, count: usize) -> Result<Vec<[f32; 4]>, Failure> {
    let values = elements::to_f64(tensor).filter(|values| values.len() == count * 4).ok_or_else(|| {
        let got = format::signature(tensor.dtype(), tensor.dims());
        Failure::new(Fault::Task, format!("prior boxes must be f32[{count},4], the file holds {got}"))
    })?;
    Ok(fours(&values.into_iter().map(|value| value as f32).collect::<Vec<_>>()))
}

fn fours(values: &[f32]) -> Vec<[f32; 4]> {
    values.as_chunks::<4>().0.to_vec()
}

/// Dimensions without leading ones down to `rank`.
fn squeezed(dims: &[usize], rank: usize) -> &[usize] {
    let ones = dims.iter().take(dims.len().saturating_sub(rank)).take_while(|dim| **dim == 1).count();
    &dims[ones..]
}

impl Heads {
    fn find(outputs: &[Output]) -> Result<Heads, Failure> {
        let boxes_of = |output: &Output| match squeezed(output.1.dims(), 2) {
            [count, 4] => floats(output).map(|values| (*count, values)),
            _ => None,
        };
        // Four classes make scores look like boxes: a telling name decides then.
        let telling = |name: &str| ["box", "loc"].iter().any(|part| name.to_lowercase().contains(part));
        let fit = |at: &usize| boxes_of(&outputs[*at]).is_some();
        let candidates: Vec<usize> = (0..outputs.len()).filter(fit).collect();
        let boxes =
            candidates.iter().copied().find(|&at| telling(&outputs[at].0)).or(candidates.first().copied());
        let fail = || {
            misfit("no outputs look like a detector's boxes [1, N, 4] and scores [1, N, C]", outputs)
                .help("detectors with other heads need post-processing of their own: --task raw")
        };
        let boxes = boxes.ok_or_else(fail)?;
        let (count, values) = boxes_of(&outputs[boxes]).ok_or_else(fail)?;
        let others = || (0..outputs.len()).filter(move |at| *at != boxes);
        let scores = others().find_map(|at| {
            let dims = outputs[at].1.dims();
            let classes = match squeezed(dims, 2) {
                [n, classes] if *n == count => *classes,
                _ if squeezed(dims, 1) == [count] => 1,
                _ => return None,
            };
            floats(&outputs[at]).filter(|_| classes > 0).map(|values| (at, classes, values))
        });
        let (scores_at, classes, scores) = scores.ok_or_else(fail)?;
        let numbers = others().find_map(|at| {
            let tensor = &outputs[at].1;
            let fits = classes == 1 && squeezed(tensor.dims(), 1) == [count] && tensor.dtype().is_integer();
            let numbers = elements::to_f64(tensor).filter(|_| fits && tensor.dtype() != DType::Bool)?;
            Some((at, numbers.into_iter().map(|value| value.max(0.0) as usize).collect()))
        });
        let mut names = vec![outputs[boxes].0.clone(), outputs[scores_at].0.clone()];
        names.extend(numbers.iter().map(|(at, _)| outputs[*at].0.clone()));
        let numbers = numbers.map(|(_, numbers)| numbers);
        Ok(Heads { boxes: fours(&values), scores, classes, numbers, names })
    }

    /// Scores that sum to 1 for each box are a softmax over the classes *and* the background.
    fn sums_to_one(&self) -> bool {
        let is_distribution = |row: &[f32]| {
            row.iter().all(|score| (-1e-3..=1.001).contains(score))
                && (row.iter().sum::<f32>() - 1.0).abs() < 1e-2
        };
        self.classes > 1
            && !self.scores.is_empty()
            && self.scores.chunks_exact(self.classes).all(is_distribution)
    }
}

impl Detections {
    /// As a field of a document.
    pub fn to_json(&self, labels: &Labels) -> Value {
        let found: Vec<Value> = self
            .found
            .iter()
            .map(|found| {
                let Corners { x1, y1, x2, y2 } = found.corners;
                json!({"class": found.class, "label": labels.get(found.class), "score": found.score,
                       "box": [x1, y1, x2, y2]})
            })
            .collect();
        let units = if self.units == Units::Fraction { "fraction" } else { "pixel" };
        json!({"kind": "detect", "outputs": self.outputs, "background": self.background, "units": units,
               "found": found})
    }

    /// Lines for people.
    pub fn to_lines(&self, labels: &Labels) -> Vec<String> {
        let mut head = format!("found   {}", self.found.len());
        if let Some(class) = self.background {
            head += &format!("  (class {class} is the background)");
        }
        let line = |found: &Candidate| {
            let Corners { x1, y1, x2, y2 } = found.corners;
            let label = labels.show(found.class);
            format!("        {:>6.3}  [{x1:>6.1} {y1:>6.1} {x2:>6.1} {y2:>6.1}]  {label}", found.score)
        };
        std::iter::once(head).chain(self.found.iter().map(line)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GEOMETRY: Geometry =
        Geometry { scale: [0.5, 0.5], offset: [0.0, 10.0], picture: [640, 400], model: [320, 240] };

    fn options() -> Options {
        Options {
            score: 0.5,
            nms: 0.45,
            top: 100,
            coding: Coding::Xyxy,
            units: None,
            background: Background::Auto,
        }
    }

    fn floats_of(name: &str, dims: &[usize], values: &[f32]) -> Output {
        (name.to_owned(), Tensor::from_slice(dims, values).unwrap())
    }

    #[test]
    fn scores_with_background_and_boxes_in_fractions() {
        let scores = floats_of("scores", &[1, 3, 2], &[0.1, 0.9, 0.2, 0.8, 0.99, 0.01]);
        let boxes = floats_of(
            "boxes",
            &[1, 3, 4],
            &[0.1, 0.25, 0.5, 0.75, 0.11, 0.25, 0.5, 0.75, 0.0, 0.0, 1.0, 1.0],
        );
        let found = detect(&[scores, boxes], &GEOMETRY, &options()).unwrap();
        assert_eq!((found.background, found.units, found.found.len()), (Some(0), Units::Fraction, 1));
        let best = found.found[0];
        assert_eq!((best.class, best.score), (1, 0.9));
        // (0.1, 0.25) of 320 x 240 is (32, 60); less the offset (0, 10), times 2.
        assert_eq!([best.corners.x1, best.corners.y1], [64.0, 100.0]);
        assert_eq!([best.corners.x2, best.corners.y2], [320.0, 340.0]);
    }

    #[test]
    fn pixels_and_numbers_of_classes() {
        let boxes = floats_of("b", &[2, 4], &[10.0, 20.0, 4.0, 6.0, f32::NAN, 0.0, 1.0, 1.0]);
        let scores = floats_of("s", &[2], &[0.7, 0.9]);
        let numbers = ("labels".to_owned(), Tensor::from_slice(&[2], &[17i64, 3]).unwrap());
        let options = Options { coding: Coding::Cxcywh, ..options() };
        let found = detect(&[boxes, scores, numbers], &GEOMETRY, &options).unwrap();
        assert_eq!((found.background, found.units, found.found.len()), (None, Units::Pixel, 1));
        assert_eq!((found.found[0].class, found.found[0].corners.x1), (17, 16.0));
    }

    #[test]
    fn priors_must_fit_and_heads_must_be_there() {
        let outputs =
            [floats_of("loc", &[1, 1, 4], &[0.0; 4]), floats_of("conf", &[1, 1, 4], &[0.9, 0.0, 0.0, 0.0])];
        let prior = Tensor::from_slice(&[1, 4], &[0.5f32, 0.5, 0.2, 0.2]).unwrap();
        let ssd = Options { coding: Coding::Prior(prior), background: Background::None, ..options() };
        let found = detect(&outputs, &GEOMETRY, &ssd).unwrap();
        assert_eq!((found.found.len(), found.outputs[0].as_str()), (1, "loc"));
        let wrong = Options { coding: Coding::Prior(Tensor::scalar(1f32)), ..options() };
        assert_eq!(detect(&outputs, &GEOMETRY, &wrong).unwrap_err().status(), 2);
        let beyond = Options { background: Background::Class(4), ..options() };
        assert!(detect(&outputs, &GEOMETRY, &beyond).is_err());
        assert_eq!(detect(&outputs[..1], &GEOMETRY, &options()).unwrap_err().status(), 2);
        let none = [floats_of("boxes", &[1, 0, 4], &[]), floats_of("scores", &[1, 0, 2], &[])];
        assert!(detect(&none, &GEOMETRY, &options()).unwrap().found.is_empty());
    }
}
