//! What a Service is: connections go to one of the replicas in turn.

use std::sync::{Arc, Mutex};

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// A forwarder on loopback.
pub(crate) struct Balancer {
    port: u16,
    replicas: Arc<Mutex<Vec<u16>>>,
    task: JoinHandle<()>,
}

// === impl Balancer ===

impl Balancer {
    /// Forwards to nobody yet.
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let replicas = Arc::new(Mutex::new(Vec::new()));
        let task = tokio::spawn(serve(listener, replicas.clone()));
        Self { port, replicas, task }
    }

    pub(crate) fn url(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// New connections may go there.
    pub(crate) fn add(&self, replica: u16) {
        self.replicas.lock().unwrap().push(replica);
    }

    /// New connections do not go there any more; those that stand do.
    pub(crate) fn remove(&self, replica: u16) {
        self.replicas.lock().unwrap().retain(|known| *known != replica);
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(listener: TcpListener, replicas: Arc<Mutex<Vec<u16>>>) {
    let mut turn = 0;
    while let Ok((mut near, _)) = listener.accept().await {
        turn += 1;
        let replicas = replicas.lock().unwrap().clone();
        tokio::spawn(async move {
            let first = turn % replicas.len().max(1);
            for replica in replicas.iter().cycle().skip(first).take(replicas.len()) {
                if let Ok(mut far) = TcpStream::connect(("127.0.0.1", *replica)).await {
                    let _ = (near.set_nodelay(true), far.set_nodelay(true));
                    let _ = copy_bidirectional(&mut near, &mut far).await;
                    return;
                }
            }
        });
    }
}
