//! `--task`: what the outputs mean, and pictures of it.

use std::path::PathBuf;

use clap::ValueEnum;
use serde_json::{Value, json};

use crate::failure::{Failure, Fault};
use crate::formats::{MOST_BYTES, npy, read_file};
use crate::input::Given;
use crate::input::picture::Geometry;
use crate::output::Console;
use crate::task::detect::{self, Background, Coding, Detections, Units};
use crate::task::labels::Labels;
use crate::task::{Output, classify, draw};

/// What the files of a task hold, read once.
#[derive(Clone, Debug)]
pub struct Prepared {
    labels: Labels,
    coding: Coding,
}

/// Arguments of the task.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Task")]
pub struct TaskArgs {
    /// What the outputs mean
    #[arg(long, value_enum)]
    task: Option<Task>,
    /// Names of the classes: one a line, or JSON
    #[arg(long, value_name = "FILE", requires = "task")]
    labels: Option<PathBuf>,
    /// Most answers [default: 5 classes, 100 boxes]
    #[arg(long, value_name = "N", requires = "task")]
    top: Option<usize>,
    /// Lowest score of a box [default: 0.5]
    #[arg(long, value_name = "S", requires = "task")]
    score: Option<f32>,
    /// Largest overlap of two boxes of one class [default: 0.45]
    #[arg(long, value_name = "IOU", requires = "task")]
    nms: Option<f32>,
    /// How boxes are written: xyxy, cxcywh, or ssd-prior:FILE.npy [default: xyxy]
    #[arg(long, value_name = "CODING", requires = "task")]
    boxes: Option<String>,
    /// Units of the boxes [default: told from the numbers]
    #[arg(long, value_enum, requires = "task")]
    units: Option<UnitsArg>,
    /// The class that stands for nothing: a number or none [default: 0 when each row of scores sums to 1]
    #[arg(long, value_name = "CLASS", requires = "task", value_parser = parse_background)]
    background: Option<Background>,
    /// Draw the boxes into a copy of the picture
    #[arg(long, value_name = "FILE", requires = "task")]
    draw: Option<PathBuf>,
}

/// `--task`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Task {
    /// Scores of classes.
    Classify,
    /// Scores and boxes.
    Detect,
    /// Numbers.
    Raw,
}

/// `--units`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum UnitsArg {
    /// Fractions of what the model sees.
    Fraction,
    /// Pixels of what the model sees.
    Pixel,
}

fn parse_background(text: &str) -> Result<Background, String> {
    match text {
        "none" => Ok(Background::None),
        text => {
            text.parse().map(Background::Class).map_err(|_| format!("{text:?} is neither a class nor none"))
        }
    }
}

impl TaskArgs {
    /// Pictures are drawn.
    pub fn draws(&self) -> bool {
        self.draw.is_some()
    }

    /// Checks that no option is given that the task has no use for.
    ///
    /// # Errors
    /// When there is one.
    pub fn check(&self) -> Result<(), Failure> {
        let for_boxes = [
            ("--score", self.score.is_some()),
            ("--nms", self.nms.is_some()),
            ("--boxes", self.boxes.is_some()),
            ("--units", self.units.is_some()),
            ("--background", self.background.is_some()),
            ("--draw", self.draw.is_some()),
        ];
        let for_classes = [("--labels", self.labels.is_some()), ("--top", self.top.is_some())];
        let useless = match self.task {
            Some(Task::Detect) => None,
            Some(Task::Classify) => for_boxes.iter().find(|(_, given)| *given),
            _ => for_boxes.iter().chain(&for_classes).find(|(_, given)| *given),
        };
        match useless {
            Some((option, _)) => {
                Err(Failure::new(Fault::Usage, format!("{option} has no effect with this task")))
            }
            None => Ok(()),
        }
    }

    /// There is a task.
    pub fn is_given(&self) -> bool {
        self.task.is_some()
    }

    /// Reads the files that the task needs.
    ///
    /// # Errors
    /// When one cannot be read or holds something else.
    pub fn prepare(&self) -> Result<Prepared, Failure> {
        let labels = match &self.labels {
            Some(path) => Labels::read(path)?,
            None => Labels::default(),
        };
        Ok(Prepared { labels, coding: self.coding()? })
    }

    /// Does the task: prints the answer and gives its document; `None` without a task.
    ///
    /// # Errors
    /// When the outputs do not fit the task, or a file cannot be written.
    pub fn answer(
        &self,
        prepared: &Prepared,
        outputs: &[Output],
        given: &[Given],
        console: &Console,
    ) -> Result<Option<Value>, Failure> {
        let labels = &prepared.labels;
        match self.task {
            None => Ok(None),
            Some(Task::Raw) => Ok(Some(json!({"kind": "raw"}))),
            Some(Task::Classify) => {
                let answer = classify::classify(outputs, labels, self.top.unwrap_or(5))?;
                answer.to_lines(labels).iter().try_for_each(|line| console.line(line))?;
                Ok(Some(answer.to_json()))
            }
            Some(Task::Detect) => self.detect(prepared, outputs, given, console).map(Some),
        }
    }

    fn detect(
        &self,
        prepared: &Prepared,
        outputs: &[Output],
        given: &[Given],
        console: &Console,
    ) -> Result<Value, Failure> {
        let labels = &prepared.labels;
        let picture = given.iter().find_map(|given| given.picture.as_ref());
        let geometry =
            picture.map(|(_, geometry)| *geometry).or_else(|| frame_of(given)).ok_or_else(|| {
                Failure::new(Fault::Task, "--task detect needs an input that is a picture")
                    .help("give one: -i face.jpg")
            })?;
        let options = detect::Options {
            score: self.score.unwrap_or(0.5),
            nms: self.nms.unwrap_or(0.45),
            top: self.top.unwrap_or(100),
            coding: prepared.coding.clone(),
            units: self.units.map(|units| match units {
                UnitsArg::Fraction => Units::Fraction,
                UnitsArg::Pixel => Units::Pixel,
            }),
            background: self.background.unwrap_or(Background::Auto),
        };
        let found = detect::detect(outputs, &geometry, &options)?;
        found.to_lines(labels).iter().try_for_each(|line| console.line(line))?;
        let mut document = found.to_json(labels);
        if let Some(path) = &self.draw {
            self.draw(path, picture.map(|(picture, _)| picture), &found, labels)?;
            console.line(format!("        drawn into {}", path.display()))?;
            document["drawn"] = json!(path.display().to_string());
        }
        Ok(document)
    }

    fn draw(
        &self,
        path: &std::path::Path,
        picture: Option<&image::RgbImage>,
        found: &Detections,
        labels: &Labels,
    ) -> Result<(), Failure> {
        let picture = picture.ok_or_else(|| Failure::new(Fault::Usage, "--draw: no input is a picture"))?;
        let mut picture = picture.clone();
        draw::draw(&mut picture, &found.found, labels);
        draw::save(&picture, path)
    }

    fn coding(&self) -> Result<Coding, Failure> {
        match self.boxes.as_deref() {
            None | Some("xyxy") => Ok(Coding::Xyxy),
            Some("cxcywh") => Ok(Coding::Cxcywh),
            Some(text) => {
                let path = text.strip_prefix("ssd-prior:").map(std::path::Path::new).ok_or_else(|| {
                    Failure::new(
                        Fault::Usage,
                        format!("--boxes {text}: write xyxy, cxcywh or ssd-prior:FILE.npy"),
                    )
                })?;
                npy::read(&read_file(path, MOST_BYTES)?, None, path).map(Coding::Prior)
            }
        }
    }
}

/// For inputs that are tensors already: boxes are given in the pixels of the tensor.
fn frame_of(given: &[Given]) -> Option<Geometry> {
    let dims = given.iter().map(|given| given.tensor.dims()).find(|dims| (3..=4).contains(&dims.len()))?;
    let (height, width) = match dims {
        [.., 1 | 3, height, width] => (*height, *width),
        [.., height, width, 1 | 3] => (*height, *width),
        _ => return None,
    };
    let size = [u32::try_from(width).ok()?, u32::try_from(height).ok()?];
    Some(Geometry { scale: [1.0; 2], offset: [0.0; 2], picture: size, model: size })
}
