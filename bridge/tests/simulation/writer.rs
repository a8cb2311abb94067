//! Whoever writes to the cluster: creates, updates, deletes, and the same name again, at random times.

use std::time::Duration;

use fastrand::Rng;

use crate::api_server::ApiServer;
use crate::etcd::{KINDS, NAMES, NAMESPACES};

/// Writes for ever. `pause` is the average time between two writes.
pub(crate) async fn run(server: ApiServer, mut rng: Rng, pause: Duration) {
    let mut count = 0_u64;
    let most = u64::try_from(pause.as_millis()).unwrap() * 2;
    loop {
        tokio::time::sleep(Duration::from_millis(rng.u64(0..most))).await;
        let burst = if rng.u32(0..30) == 0 { rng.u32(5..40) } else { 1 };
        for _ in 0..burst {
            count += 1;
            write(&server, &mut rng, count);
            // Whoever reads may come in between; the time does not move.
            tokio::task::yield_now().await;
        }
    }
}

/// One write. Some objects are ten times as large as others.
pub(crate) fn write(server: &ApiServer, rng: &mut Rng, count: u64) {
    let kind = usize::from(rng.u32(0..4) == 0);
    debug_assert!(kind < KINDS.len());
    let (namespace, name) = (NAMESPACES[rng.usize(0..NAMESPACES.len())], NAMES[rng.usize(0..NAMES.len())]);
    let length = if rng.u32(0..20) == 0 { rng.usize(1000..6000) } else { 10 };
    let spec = format!("{count} {}", "x".repeat(length));
    let inner = &mut *server.lock();
    match rng.u32(0..100) {
        0..60 => inner.put(kind, namespace, name, &spec),
        60..80 => inner.delete(kind, &format!("{namespace}/{name}")),
        80..92 => {
            inner.delete(kind, &format!("{namespace}/{name}"));
            inner.put(kind, namespace, name, &spec);
        }
        _ => inner.write_elsewhere(),
    }
}
