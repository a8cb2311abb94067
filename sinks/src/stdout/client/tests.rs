use super::*;
use crate::fixture::todo;
use crate::stdout::to_writer;

/// Keeps what is written, and fails from when it is told to.
#[derive(Clone, Default)]
struct Page(Arc<Mutex<(Vec<u8>, Option<io::ErrorKind>)>>);

impl Write for Page {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut page = self.0.lock().unwrap();
        match page.1 {
            Some(kind) => Err(kind.into()),
            None => page.0.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Page {
    fn lines(&self) -> Vec<String> {
        String::from_utf8(self.0.lock().unwrap().0.clone()).unwrap().lines().map(str::to_owned).collect()
    }

    fn fail(&self, kind: Option<io::ErrorKind>) {
        self.0.lock().unwrap().1 = kind;
    }
}

fn target() -> (Page, crate::Target) {
    let page = Page::default();
    let target =
        to_writer(tidings_config::sink::stdout::ValidStdout::default(), false, Box::new(page.clone()));
    (page, target)
}

#[tokio::test]
async fn acked_lines_are_written_in_order() {
    let (page, target) = target();
    let messages: Vec<_> = ["a", "b", "c"].map(|name| target.encoder.encode(&todo(name))).into();
    assert_eq!(target.sink.deliver(&messages).await, vec![Outcome::Acked; 3]);
    assert_eq!(target.sink.deliver(&messages[..1]).await, [Outcome::Acked]);
    assert_eq!(target.sink.deliver(&[]).await, []);
    let names: Vec<_> =
        page.lines().iter().map(|line| line.split_whitespace().nth(3).unwrap().to_owned()).collect();
    assert_eq!(names, ["shop/a", "shop/b", "shop/c", "shop/a"]);
    assert_eq!(target.sink.check().await, Ok(()));
}

#[tokio::test]
async fn a_reader_that_has_gone_is_a_retry_and_a_reason() {
    let (page, target) = target();
    let messages = [target.encoder.encode(&todo("a"))];
    page.fail(Some(io::ErrorKind::BrokenPipe));
    assert!(matches!(target.sink.deliver(&messages).await[..], [Outcome::Retry { .. }]));
    assert_eq!(target.sink.check().await.unwrap_err().reason, "OutputClosed");
    page.fail(None);
    assert_eq!(target.sink.deliver(&messages).await, [Outcome::Acked]);
    assert_eq!(target.sink.check().await, Ok(()));
}

#[tokio::test]
async fn a_closed_sink_takes_nothing_more() {
    let (page, target) = target();
    target.sink.close(Duration::from_secs(5)).await;
    let outcomes = target.sink.deliver(&[target.encoder.encode(&todo("a"))]).await;
    assert!(matches!(outcomes[..], [Outcome::Retry { .. }]));
    assert_eq!(page.lines(), Vec::<String>::new());
    assert!(target.sink.check().await.is_err());
}
