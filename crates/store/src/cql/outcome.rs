//! What an error of the driver says about a write: that nothing was done, or that it is unknown.

use scylla::errors::{DbError, ExecutionError, RequestAttemptError};

use crate::WriteError;

/// Returns the outcome of a write that was not answered as done. Only what no replica can have seen has failed: the
/// driver found no connection, or the coordinator refused the write before it sent it on. That includes *unavailable*:
/// the coordinator counts the live replicas first.
pub(super) fn write_error(name: &str, error: &ExecutionError) -> WriteError {
    let text = format!("{name}: {error}");
    let refused = match error {
        ExecutionError::BadQuery(_)
        | ExecutionError::EmptyPlan
        | ExecutionError::PrepareError(_)
        | ExecutionError::ConnectionPoolError(_) => true,
        ExecutionError::LastAttemptError(attempt) => match attempt {
            RequestAttemptError::SerializationError(_)
            | RequestAttemptError::CqlRequestSerialization(_)
            | RequestAttemptError::UnableToAllocStreamId => true,
            RequestAttemptError::DbError(error, _) => matches!(
                error,
                DbError::SyntaxError
                    | DbError::Invalid
                    | DbError::Unauthorized
                    | DbError::AuthenticationError
                    | DbError::ConfigError
                    | DbError::Unavailable { .. }
                    | DbError::IsBootstrapping
            ),
            _ => false,
        },
        _ => false,
    };
    if refused { WriteError::Failed(text) } else { WriteError::Unknown(text) }
}

/// Returns whether the same statement will fail again, because the database does not take it.
pub(super) fn is_hopeless(error: &ExecutionError) -> bool {
    match error {
        ExecutionError::BadQuery(_) => true,
        ExecutionError::LastAttemptError(RequestAttemptError::DbError(error, _)) => {
            matches!(error, DbError::SyntaxError | DbError::Invalid | DbError::Unauthorized | DbError::ConfigError)
        }
        _ => false,
    }
}

/// Returns the outcome of a write of several parts. It has failed only if nothing of any part was done.
pub(super) fn of_all(parts: Vec<Result<(), WriteError>>) -> Result<(), WriteError> {
    let (mut is_done, mut failed) = (false, None);
    for part in parts {
        match part {
            Ok(()) => is_done = true,
            Err(unknown @ WriteError::Unknown(_)) => return Err(unknown),
            Err(error) => failed = Some(error),
        }
    }
    match failed {
        None => Ok(()),
        Some(WriteError::Failed(why)) if is_done => Err(partly(why)),
        Some(error) => Err(error),
    }
}

/// Returns the outcome of a write of which only a part failed.
pub(super) fn partly(why: String) -> WriteError {
    WriteError::Unknown(format!("a part of it was done, and another part was not: {why}"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn only_what_no_replica_can_have_seen_has_failed() {
        let db = |error| ExecutionError::LastAttemptError(RequestAttemptError::DbError(error, String::new()));
        let is_failed = |error| matches!(write_error("w", &error), WriteError::Failed(_));
        assert!(is_failed(ExecutionError::EmptyPlan) && is_failed(db(DbError::Invalid)));
        let unavailable =
            DbError::Unavailable { consistency: scylla::statement::Consistency::Quorum, required: 2, alive: 1 };
        assert!(is_failed(db(unavailable)));
        assert!(!is_failed(db(DbError::Overloaded)) && !is_failed(db(DbError::ServerError)));
        assert!(!is_failed(ExecutionError::RequestTimeout(Duration::from_secs(1))));
    }

    #[test]
    fn a_write_has_failed_only_if_nothing_of_it_was_done() {
        let (failed, unknown) = (|| Err(WriteError::Failed("f".into())), || Err(WriteError::Unknown("u".into())));
        assert_eq!(of_all(vec![Ok(()), Ok(())]), Ok(()));
        assert_eq!(of_all(vec![failed(), failed()]), failed());
        assert!(matches!(of_all(vec![failed(), Ok(())]), Err(WriteError::Unknown(_))));
        assert_eq!(of_all(vec![failed(), unknown(), Ok(())]), unknown());
    }
}
