//! What is wrong with a file, and how it is shown: every error at once, each with its place.

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};
use std::fmt;
use std::ops::Range;

/// What sort of error it is; later sorts are only worth saying when the earlier ones did not cause them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum DiagnosticKind {
    /// The file is no TOML, or no text at all.
    Syntax,
    /// A key that nobody knows, or a value of the wrong kind or out of range.
    Shape,
    /// Something that must be there is not.
    Missing,
    /// It names something that is not in the file, or two places contradict each other.
    Reference,
    /// The grammar knows it, and this version cannot run it yet.
    Unsupported,
}

/// One error.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Diagnostic {
    /// Its sort.
    pub kind: DiagnosticKind,
    /// What is wrong, in one sentence without a full stop.
    pub message: String,
    /// Where, in bytes of the file; end exclusive. `None` when the file could not be read as text, or none is at hand.
    pub span: Option<Range<usize>>,
    /// A few words at the place; may be empty.
    pub label: String,
    /// A second place that has to do with it.
    pub context: Option<(Range<usize>, String)>,
    /// What is allowed, what was perhaps meant, what to do.
    pub help: Vec<String>,
}

impl Diagnostic {
    /// An error at a place.
    #[must_use]
    pub fn new(kind: DiagnosticKind, span: Option<Range<usize>>, message: impl Into<String>) -> Self {
        Diagnostic { kind, message: message.into(), span, label: String::new(), context: None, help: Vec::new() }
    }

    pub(super) fn label(mut self, label: impl Into<String>) -> Self {
        self.label = label.into();
        self
    }

    pub(super) fn help(mut self, help: impl Into<String>) -> Self {
        let help = help.into();
        if !help.is_empty() {
            self.help.push(help);
        }
        self
    }

    pub(super) fn context(mut self, span: Range<usize>, label: impl Into<String>) -> Self {
        self.context = Some((span, label.into()));
        self
    }
}

/// Every error of one file. Never empty.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Diagnostics {
    /// The file's name as the user gave it.
    pub file: String,
    /// The file's text; empty if it is no text.
    pub source: String,
    /// In the order of their places.
    pub errors: Vec<Diagnostic>,
}

/// No more errors than this are shown; a file of random bytes has thousands.
const SHOWN: usize = 30;

impl Diagnostics {
    /// For one file. Sorts the errors by place and drops what is said twice.
    #[must_use]
    pub fn new(file: &str, source: &str, mut errors: Vec<Diagnostic>) -> Self {
        errors.sort_by_key(|error| (error.span.as_ref().map_or(0, |span| span.start), error.kind));
        errors.dedup();
        Diagnostics { file: file.to_string(), source: source.to_string(), errors }
    }

    /// Line and column of an error, both from 1; the column counts characters.
    #[must_use]
    pub fn line_and_column(&self, error: &Diagnostic) -> Option<(usize, usize)> {
        let start = error.span.as_ref()?.start.min(self.source.len());
        let before = self.source.get(..start)?;
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().map_or(0, |line| line.chars().count()) + 1;
        Some((line, column))
    }

    /// As text for a terminal; `colour` adds escape sequences and nothing else. Ends with a line that counts the errors.
    #[must_use]
    pub fn render(&self, colour: bool) -> String {
        let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
        let renderer = renderer.term_width(120);
        let mut out = String::new();
        for error in self.errors.iter().take(SHOWN) {
            out.push_str(&renderer.render(&[self.report(error)]));
            out.push_str("\n\n");
        }
        if self.errors.len() > SHOWN {
            out.push_str(&format!("... and {} more\n", self.errors.len() - SHOWN));
        }
        let count = self.errors.len();
        out.push_str(&format!("{}: {count} error{}, nothing was run\n", self.file, if count == 1 { "" } else { "s" }));
        out
    }

    fn report<'a>(&'a self, error: &'a Diagnostic) -> Group<'a> {
        let title = Level::ERROR.primary_title(error.message.as_str());
        let mut group = match error.span.as_ref().and_then(|span| self.window(span, error.context.as_ref())) {
            None => title.element(annotate_snippets::Origin::path(self.file.as_str())),
            Some(window) => {
                let shift =
                    |span: &Range<usize>| self.clamp(span.start) - window.start..self.clamp(span.end) - window.start;
                let mut snippet = Snippet::source(&self.source[window.clone()])
                    .path(self.file.as_str())
                    .line_start(self.source[..window.start].matches('\n').count() + 1);
                if let Some(span) = &error.span {
                    let annotation = AnnotationKind::Primary.span(shift(span));
                    let label = (!error.label.is_empty()).then_some(error.label.as_str());
                    snippet = snippet.annotation(annotation.label(label));
                }
                if let Some((span, label)) = &error.context {
                    snippet = snippet.annotation(AnnotationKind::Context.span(shift(span)).label(label.as_str()));
                }
                title.element(snippet)
            }
        };
        for help in &error.help {
            group = group.element(Level::HELP.message(help.as_str()));
        }
        group
    }

    /// A byte position that is inside the text and between two characters.
    fn clamp(&self, position: usize) -> usize {
        let mut position = position.min(self.source.len());
        while !self.source.is_char_boundary(position) {
            position -= 1;
        }
        position
    }

    /// The lines that hold the places of an error, so that the renderer need not walk a large file for each.
    fn window(&self, span: &Range<usize>, context: Option<&(Range<usize>, String)>) -> Option<Range<usize>> {
        if self.source.is_empty() {
            return None;
        }
        let (mut start, mut end) = (self.clamp(span.start), self.clamp(span.end));
        if let Some((other, _)) = context {
            start = start.min(self.clamp(other.start));
            end = end.max(self.clamp(other.end));
        }
        let start = self.source[..start].rfind('\n').map_or(0, |at| at + 1);
        let end = self.source[end..].find('\n').map_or(self.source.len(), |at| end + at);
        Some(start..end.max(start))
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl std::error::Error for Diagnostics {}
