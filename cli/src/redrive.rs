//! `tidings redrive`: the way out for dead letters.

mod report;

use anyhow::{Result, bail};
use tidings_bridge::redrive::place::Place;
use tidings_bridge::redrive::{Choice, Redrive, Tally};
use tidings_sinks::Target;
use tidings_sinks::letters::Reader;
use tidings_sinks::sink::NotReady;

use self::report::Report;
use crate::args::RedriveArgs;
use crate::cluster::Cluster;
use crate::shutdown;

pub(crate) fn run(args: RedriveArgs) -> Result<()> {
    let RedriveArgs { name, namespace, dry_run, limit, ids, keys, consumer, group, queue, output, cluster } =
        args;
    let choice = Choice { ids: ids.into_iter().collect(), keys: keys.into_iter().collect(), limit, dry_run };
    let reader = Reader { queue, group, consumer, ..Reader::default() };
    shutdown::run(async {
        let stop = shutdown::on_signal()?;
        let cluster = Cluster::connect(&cluster).await?;
        cluster.check().await?;
        let namespace = namespace.unwrap_or(cluster.namespace);
        let place = Place::of(cluster.client, &namespace, &name).await?;
        // Before a letter is touched.
        let target = if dry_run {
            Target::unusable(NotReady::new("DryRun", "nothing is sent"))
        } else {
            place.target().await?
        };
        let (recipient, mut letters) = (place.recipient(), place.letters(reader).await?);
        let mut report = Report::new(output, dry_run, stop.clone());
        let redrive = Redrive {
            letters: &mut *letters,
            target: &target,
            recipient: &recipient,
            choice: &choice,
            stop: &stop,
            tell: |said| report.take(said),
        };
        let (tally, outcome) = Box::pin(redrive.run()).await;
        let closed = letters.close().await;
        report.end(tally)?;
        outcome?;
        if let Err(NotReady { message, .. }) = closed {
            bail!("failed to give back what stays: {message}");
        }
        let Tally { sent, refused, unreadable, .. } = tally;
        match refused + unreadable {
            0 => Ok(()),
            stay => bail!("{stay} of {} dead letters stay where they are", sent + stay),
        }
    })
}
