//! The library's log events and spans.

use std::collections::BTreeMap;
use std::fmt::{Debug, Write as _};
use std::sync::{LazyLock, mpsc};

use tokio::sync::mpsc as channel;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::DefaultGuard;
use tracing::{Dispatch, Event, Level, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;

use super::within;

/// The log of this thread, from now on until it is dropped. It holds everything on a runtime of one thread.
pub struct Log {
    lines: channel::UnboundedReceiver<String>,
    accesses: channel::UnboundedReceiver<Fields>,
    spans: mpsc::Receiver<Span>,
    ended: Vec<Span>,
    _guard: DefaultGuard,
}

/// A span that has ended.
#[derive(Clone, Debug)]
pub struct Span {
    pub name: &'static str,
    pub fields: BTreeMap<&'static str, String>,
}

/// Two subscribers that want everything, and never get any. While there is at most one, tracing asks the thread that
/// comes to a line first whether anybody wants it, for all threads and for good; that may be another test's.
static INTERESTED: LazyLock<[Dispatch; 2]> = LazyLock::new(|| [(); 2].map(|()| tracing_subscriber::registry().into()));

/// Before anything is logged that a test may want to see.
pub fn begin() {
    LazyLock::force(&INTERESTED);
}

impl Log {
    pub fn new() -> Self {
        begin();
        let (to_lines, lines) = channel::unbounded_channel();
        let (to_accesses, accesses) = channel::unbounded_channel();
        let (to_spans, spans) = mpsc::channel();
        let recorder = Recorder { lines: to_lines, accesses: to_accesses, spans: to_spans };
        let guard = tracing::subscriber::set_default(tracing_subscriber::registry().with(recorder));
        Self { lines, accesses, spans, ended: Vec::new(), _guard: guard }
    }

    /// Waits for a line with these words: its level, the span that it was written in, and its text.
    pub async fn until(&mut self, words: &str) -> String {
        let line = async {
            loop {
                let line = self.lines.recv().await.expect("the recorder lives as long as the log");
                if line.contains(words) {
                    return line;
                }
            }
        };
        within(line).await
    }

    /// The lines until now.
    pub fn lines(&mut self) -> Vec<String> {
        std::iter::from_fn(|| self.lines.try_recv().ok()).collect()
    }

    /// Waits for the next event of the access log: its fields.
    pub async fn access(&mut self) -> BTreeMap<&'static str, String> {
        within(self.accesses.recv()).await.expect("the recorder lives as long as the log").0
    }

    /// The events of the access log that are there and were not asked for.
    pub fn accesses(&mut self) -> Vec<BTreeMap<&'static str, String>> {
        std::iter::from_fn(|| self.accesses.try_recv().ok()).map(|fields| fields.0).collect()
    }

    /// The spans of this name that have ended since they were last asked for.
    pub fn spans(&mut self, name: &str) -> Vec<Span> {
        self.ended.extend(self.spans.try_iter());
        self.ended.extract_if(.., |span| span.name == name).collect()
    }
}

struct Recorder {
    lines: channel::UnboundedSender<String>,
    accesses: channel::UnboundedSender<Fields>,
    spans: mpsc::Sender<Span>,
}

#[derive(Default)]
struct Fields(BTreeMap<&'static str, String>);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.insert(field.name(), format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name(), value.to_owned());
    }
}

impl<S: Subscriber + for<'s> LookupSpan<'s>> Layer<S> for Recorder {
    /// Everything but what h2 says, which is several lines for each frame: a flood of them took seconds to write down.
    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        !metadata.target().starts_with("h2::")
    }

    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        context.span(id).unwrap().extensions_mut().insert(fields);
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        if let Some(fields) = context.span(id).unwrap().extensions_mut().get_mut::<Fields>() {
            values.record(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        if event.metadata().target() == "byname::access" {
            assert_eq!(*event.metadata().level(), Level::INFO);
            let _ = self.accesses.send(fields);
            return;
        }
        let mut line = format!("{}", event.metadata().level());
        if let Some(span) = context.event_span(event) {
            let _ = write!(line, " {}", span.name());
        }
        for (name, value) in &fields.0 {
            let _ = write!(line, " {name}={value}");
        }
        let _ = self.lines.send(line);
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        let span = context.span(&id).unwrap();
        let fields = span.extensions_mut().remove::<Fields>().unwrap_or_default().0;
        let _ = self.spans.send(Span { name: span.name(), fields });
    }
}
