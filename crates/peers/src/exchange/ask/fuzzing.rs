//! Answers without a connection, for a fuzzer.

use std::sync::{Arc, Mutex};

use larder_content::FileKey;
use tokio::sync::{Semaphore, mpsc};

use super::{Ask, FetchError, Part, Session, Shared, Wanted, lock};

/// The answers to questions in what a peer sends, each up to its error, and how it ends.
pub(crate) async fn read_answers(shared: &Shared, wanted: &[Wanted], mut sent: &[u8]) -> (Vec<Vec<Result<Part, FetchError>>>, FetchError) {
    let session = Session { waiting: Mutex::default(), changed: Arc::default(), overdue: Arc::new(Semaphore::new(1)) };
    let mut answers = Vec::new();
    for wanted in wanted {
        let (parts, answer) = mpsc::channel(16);
        let (file, wanted, signs) = (FileKey([7; 32]), wanted.clone(), Arc::default());
        lock(&session.waiting).asks.push_back(Ask { file, content: None, wanted, parts, signs, cancel_sent: false });
        answers.push(answer);
    }
    let end = session.read(&mut sent, shared, &shared.traffic).await;
    let all = answers.into_iter().map(|mut answer| std::iter::from_fn(|| answer.try_recv().ok()).collect());
    (all.collect(), end)
}
