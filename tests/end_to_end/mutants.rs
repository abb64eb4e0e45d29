//! Shows that the tests can fail: each test here breaks one promise on purpose and sees a test of that promise notice.

use sendpi_model::faults::{FailPoint, Mutant};
use sendpi_tests::SendpiSetup;

use crate::{activation, crash, delivery, fence, nonce};

/// Runs a scenario under a mutant, and checks that it fails with a panic text that contains `words`.
async fn notices<F>(mutant: Mutant, words: &str, scenario: impl FnOnce(SendpiSetup) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let setup = SendpiSetup { mutant: Some(mutant), ..SendpiSetup::default() };
    let Err(failed) = tokio::spawn(scenario(setup)).await else { panic!("nothing noticed {mutant:?}") };
    let panic = failed.into_panic();
    let said = panic.downcast_ref::<String>().cloned().or_else(|| panic.downcast_ref::<&str>().map(|s| s.to_string()));
    let said = said.unwrap_or_default();
    assert!(said.contains(words), "{mutant:?} made it fail with {said:?}, not with {words:?}");
}

#[tokio::test]
async fn barrier_off_misses_who_signs_in_during_an_activation() {
    notices(Mutant::BarrierOff, "gets \"second\"", |setup| activation::sign_in_races(setup, 50)).await;
}

#[tokio::test]
async fn link_answers_off_loses_an_event() {
    notices(Mutant::LinkAnswersOff, "a lost message comes again", delivery::lost_link_messages).await;
}

#[tokio::test]
async fn fence_off_answers_for_a_partition_that_another_owns() {
    fence::notices_mutant().await;
}

#[tokio::test]
async fn nonce_lookup_off_stores_a_repeat_twice() {
    notices(Mutant::NonceLookupOff, "later events", |setup| nonce::repeats(setup, 2_000)).await;
}

#[tokio::test]
async fn redispatch_off_pushes_nobody_after_a_crash() {
    notices(Mutant::RedispatchOff, "a push of", |setup| crash::crash_at(setup, FailPoint::AfterFence)).await;
}

#[tokio::test]
async fn bounce_off_pushes_nothing_for_a_silent_device() {
    notices(Mutant::BounceOff, "a push of", delivery::silent_device).await;
}
