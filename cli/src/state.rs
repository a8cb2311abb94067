//! `tidings state`.

use std::fmt::Write as _;
use std::io::{self, BufRead, BufWriter, ErrorKind, IsTerminal, Write};
use std::path::Path;

use anyhow::{Context, Result, bail};
use clap::CommandFactory;
use jiff::Timestamp;
use tidings_bridge::state::export::export;
use tidings_bridge::state::inspect::{StateReader, Unsettled, WatchContents, set_aside};
use tidings_core::watch::saved::Head;

use crate::args::{Cli, StateArgs, StateCommand};
use crate::output::{self, Style, grouped};

pub(crate) fn run(args: StateArgs) -> Result<()> {
    let StateArgs { command } = args;
    match command {
        StateCommand::Inspect { folder } => inspect(&folder.state_dir),
        StateCommand::Export { folder, bodies } => print_all(&folder.state_dir, bodies),
        StateCommand::Reset { folder, yes } => reset(&folder.state_dir, yes),
    }
}

fn inspect(folder: &Path) -> Result<()> {
    let mut reader = StateReader::open(folder)?;
    let text = summary(folder, &mut reader, &Style::of_stdout());
    output::print(text.as_bytes())?;
    sound(&reader)
}

fn print_all(folder: &Path, bodies: bool) -> Result<()> {
    let mut reader = StateReader::open(folder)?;
    let mut output = BufWriter::new(io::stdout().lock());
    match export(&mut reader, bodies, &mut output) {
        // A reader that has gone, as `head` does, has read enough.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(()),
        result => result.context("failed to write the output")?,
    }
    sound(&reader)
}

fn reset(folder: &Path, yes: bool) -> Result<()> {
    if !yes {
        if !(io::stdin().is_terminal() && io::stderr().is_terminal()) {
            let refusal = "without a terminal to ask on, `tidings state reset` needs --yes";
            Cli::command().error(clap::error::ErrorKind::MissingRequiredArgument, refusal).exit();
        }
        if !confirmed(folder)? {
            bail!("nothing was changed");
        }
    }
    let name = Timestamp::now().strftime("reset-%Y%m%dT%H%M%SZ").to_string();
    let said = match set_aside(folder, &name)? {
        Some(aside) => {
            format!("The state is in {} now. Remove it when you do not need it.\n", aside.display())
        }
        None => format!("There is no state in {}.\n", folder.display()),
    };
    output::print(said.as_bytes())
}

fn confirmed(folder: &Path) -> Result<bool> {
    let question = format!(
        "This moves the state in {} away. The bridge then begins anew: every Subscription gets a snapshot of\n\
         everything, and what is not delivered yet, as well as deletes of the meantime, is not told.\n\
         Move it away? [y/N] ",
        folder.display()
    );
    let mut terminal = io::stderr().lock();
    terminal.write_all(question.as_bytes()).and_then(|()| terminal.flush()).context("failed to ask")?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer).context("failed to read the answer")?;
    Ok(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
}

/// What was shown was all there is.
fn sound(reader: &StateReader) -> Result<()> {
    match reader.damage() {
        [] => Ok(()),
        [problem] => bail!("the state is damaged: {problem}"),
        [problem, more @ ..] => bail!("the state is damaged: {problem}, and {} more", more.len()),
    }
}

fn summary(folder: &Path, reader: &mut StateReader, style: &Style) -> String {
    let Style { bold, red, plain, .. } = style;
    let mut watches = String::new();
    for contents in reader.watches() {
        watches += &watch(reader, &contents, style);
    }
    let cluster = reader.cluster();
    let damage = match reader.damage() {
        [] => "none".to_owned(),
        problems => format!("{red}{}{plain}", problems.join("\n           ")),
    };
    if watches.is_empty() {
        watches += "\nNo Watch is stored.\n";
    }
    format!(
        "{bold}State in {}{plain}\n  schema   {}\n  cluster  {}\n  on disk  {}\n  damage   {damage}\n{watches}",
        folder.display(),
        reader.schema(),
        cluster.as_deref().unwrap_or("not known yet"),
        size(reader.size()),
    )
}

fn watch(reader: &mut StateReader, contents: &WatchContents, style: &Style) -> String {
    let Style { bold, plain, .. } = style;
    let place = contents.name.namespace.as_ref().map(|name| format!(" in {name}")).unwrap_or_default();
    let mut text = format!("\n{bold}{}{place}{plain}\n", contents.name.kind);
    let (saved, chunks) = (reader.saved(contents), reader.chunks(contents));
    let changes = chunks.iter().map(|chunk| chunk.entries).sum();
    let bytes = chunks.iter().map(|chunk| chunk.bytes).sum();
    // Writing to a String cannot fail.
    if let Some(record) = &contents.record {
        let _ = writeln!(text, "  position  {}", position(&record.head));
    }
    let _ = writeln!(text, "  known     {} objects", grouped(saved.known.len() as u64));
    let _ = writeln!(
        text,
        "  journal   {} changes in {} chunks, {}",
        grouped(changes),
        chunks.len(),
        size(bytes)
    );
    for subscription in contents.record.iter().flat_map(|record| &record.subscriptions) {
        let Unsettled { changes, bytes } = Unsettled::of(subscription, &chunks);
        let _ = writeln!(
            text,
            "  {bold}{}{plain}  {} changes not settled, {}, to {}",
            subscription.subscription,
            grouped(changes),
            size(bytes),
            subscription.place
        );
    }
    text
}

fn position(head: &Head) -> String {
    let epoch = if head.epoch.0 == 0 { String::new() } else { format!(" in epoch {}", head.epoch.0) };
    match (head.position, head.reconciling) {
        (Some(position), true) => format!("reconciling from {position}{epoch}"),
        (Some(position), false) => format!("{position}{epoch}"),
        (None, _) => format!("none: the first snapshot is not complete{epoch}"),
    }
}

/// With one digit behind the point, in the unit that makes it short.
fn size(bytes: u64) -> String {
    let (unit, name) = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")]
        .into_iter()
        .find(|(unit, _)| bytes >= *unit)
        .unwrap_or((1, "B"));
    if unit == 1 {
        return format!("{bytes} B");
    }
    let tenths = bytes / (unit / 10).max(1);
    format!("{}.{} {name}", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_written_for_people() {
        let sizes = [0, 1023, 1024, 1536, 4 << 30].map(size);
        assert_eq!(sizes, ["0 B", "1023 B", "1.0 KiB", "1.5 KiB", "4.0 GiB"]);
    }
}
